/** What needs a look, in a line each; or that nothing does. */

import {h, list, text, the} from './dom.js';
import {count, counted, joined} from './words.js';

/**
 * @typedef {import('./types.js').Snapshot} Snapshot
 * @typedef {{level: 'bad' | 'warn', what: string}} Matter
 */

const BACKENDS = /** @type {const} */ (['inventory', 'queue', 'store']);

/** @param {Snapshot} snapshot */
export function show(snapshot) {
  const found = matters(snapshot);
  const worst = found.some(({level}) => level === 'bad') ? 'bad' : found.length > 0 ? 'warn' : 'good';
  the('verdict').dataset.is = worst;
  text(the('verdict-said'), found.length === 0 ? well(snapshot) : `${counted(found.length, 'matter needs', 'matters need')} a look`);
  list(
    the('verdict-list'),
    found,
    ({what}) => what,
    () => h('li'),
    (item, {level, what}) => {
      item.dataset.is = level;
      text(item, what);
    },
  );
  title(worst === 'good' ? '' : worst === 'bad' ? '✗ ' : '! ', snapshot);
}

/**
 * @param {import('./feed.js').State} state
 * @param {Snapshot | null} last
 */
export function feed(state, last) {
  if (state.is === 'lost') title('✗ lost: ', last);
  else if (state.is === 'resting') title('… ', last);
}

/**
 * @param {string} sign
 * @param {Snapshot | null} snapshot
 */
function title(sign, snapshot) {
  const said = `${sign}${snapshot ? `${snapshot.node} – ` : ''}Rushgate`;
  if (document.title !== said) document.title = said;
}

/** @param {Snapshot} snapshot */
function well(snapshot) {
  const living = snapshot.nodes.filter((node) => node.state === 'alive').length;
  const parts = [
    snapshot.sales.length === 1 ? 'the sale adds up' : `${counted(snapshot.sales.length, 'sale')} add up`,
    `${counted(living, 'node is', 'nodes are')} alive`,
    BACKENDS.every((backend) => snapshot.health[backend].ok) ? 'inventory, queue and store answer' : 'the backends are being asked',
  ];
  return `All is well: ${joined(snapshot.sales.length === 0 ? parts.slice(1) : parts)}.`;
}

/**
 * Nothing in these lines ticks, or they would be told again each second.
 *
 * @param {Snapshot} snapshot
 * @returns {Matter[]}
 */
export function matters(snapshot) {
  /** @type {Matter[]} */
  const found = [];
  /** @param {string} what */
  const bad = (what) => found.push({level: 'bad', what});
  /** @param {string} what */
  const warn = (what) => found.push({level: 'warn', what});
  for (const sale of snapshot.sales) {
    for (const pool of sale.pools) if (adds(pool) === false) bad(`${sale.sale}: pool ${pool.pool} does not add up`);
    if (sale.drift_units) bad(`${sale.sale}: inventory and store differ by ${counted(sale.drift_units, 'unit')}`);
    if (sale.quarantined) bad(`${sale.sale}: ${counted(sale.quarantined, 'order')} in quarantine`);
  }
  for (const backend of BACKENDS) {
    const {ok, why, backend: name} = snapshot.health[backend];
    if (ok === false) bad(`The ${backend} (${name}) does not answer${why ? `: ${why}` : ''}`);
  }
  if (snapshot.draining) warn(`${snapshot.node} drains, and ends when it has finished`);
  else if (!snapshot.ready) bad(`${snapshot.node} is not ready`);
  for (const closed of snapshot.admission_closed) bad(`${snapshot.node} grants nothing new: ${closed}`);
  if (snapshot.dead_letters) bad(`${counted(snapshot.dead_letters, 'dead letter')}: messages that could not be stored`);
  for (const lane of snapshot.lanes) {
    if (lane.lane !== 'dead' && lane.messages > 0 && lane.consumers === 0) warn(`Lane ${lane.lane} has messages and no writer`);
  }
  for (const node of snapshot.nodes) {
    if (node.state === 'late') warn(`${node.node} is late with its heartbeat`);
    if (node.state === 'gone') warn(`${node.node} is gone; the others sell its part`);
    if (node.state === 'alive' && node.ready === false) warn(`${node.node} is not ready`);
  }
  return found;
}

/**
 * Is capacity = free + held + sold? Null where that is not known.
 *
 * @param {{capacity: number, free: number | null, held: number | null, sold: number | null}} figures
 * @returns {boolean | null}
 */
export function adds({capacity, free, held, sold}) {
  if (free === null || held === null || sold === null) return null;
  return free + held + sold === capacity;
}

/**
 * @param {{capacity: number, free: number | null, held: number | null, sold: number | null}} figures
 */
export function equation(figures) {
  const {capacity, free, held, sold} = figures;
  const said = `${count(capacity)} = ${count(free)} free + ${count(held)} held + ${count(sold)} sold`;
  const mark = adds(figures);
  return mark === false ? `${said}, which does not add up` : said;
}
