/** What needs a look, in a line each; or that nothing does. */

import {h, list, text, the} from './dom.js';
import {count, counted, joined} from './words.js';

/**
 * @typedef {import('./types.js').Snapshot} Snapshot
 * @typedef {{level: 'bad' | 'warn', what: string}} Matter
 */

/** In so many snapshots running a pool has not added up. One alone may have been taken while a unit moved. @type {Map<string, number>} */
let doubted = new Map();

const BACKENDS = /** @type {const} */ (['inventory', 'queue', 'store']);

/** @param {Snapshot} snapshot */
export function show(snapshot) {
  learn(snapshot);
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
function learn(snapshot) {
  /** @type {Map<string, number>} */
  const now = new Map();
  for (const {sale, pools} of snapshot.sales) {
    for (const pool of pools) if (adds(pool) === false) now.set(key(sale, pool.pool), (doubted.get(key(sale, pool.pool)) ?? 0) + 1);
  }
  doubted = now;
}

/**
 * @param {string} sale
 * @param {string} pool
 */
function key(sale, pool) {
  return JSON.stringify([sale, pool]);
}

/**
 * Does a pool not add up, in two snapshots running?
 *
 * @param {string} sale
 * @param {string} pool
 */
export function broken(sale, pool) {
  return (doubted.get(key(sale, pool)) ?? 0) > 1;
}

/** @param {Snapshot} snapshot */
function well(snapshot) {
  const living = snapshot.nodes.filter((node) => node.state === 'alive').length;
  const parts = [
    snapshot.sales.length === 1 ? 'the sale adds up' : `${counted(snapshot.sales.length, 'sale')} add up`,
    ...(living > 0 ? [`${counted(living, 'node is', 'nodes are')} alive`] : []),
    BACKENDS.every((backend) => snapshot.health[backend].ok) ? 'inventory, queue and store answer' : 'the backends are being asked',
  ];
  const unknown = [
    snapshot.sales.some((sale) => sale.drift_units === null) ? ' The store was not compared here.' : '',
    snapshot.roles.includes('gateway') ? '' : ` ${snapshot.node} is no gateway and hears of none.`,
  ];
  return `All is well: ${joined(snapshot.sales.length === 0 ? parts.slice(1) : parts)}.${unknown.join('')}`;
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
    for (const pool of sale.pools) if (broken(sale.sale, pool.pool)) bad(`${sale.sale}: pool ${pool.pool} does not add up`);
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
  if (snapshot.roles.includes('gateway') && !snapshot.nodes.some(({state}) => state === 'alive' || state === 'late')) warn('No gateway is heard');
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
 * @param {boolean} wrong
 */
export function equation(figures, wrong) {
  const {capacity, free, held, sold} = figures;
  const said = `${count(capacity)} = ${count(free)} free + ${count(held)} held + ${count(sold)} sold`;
  return wrong ? `${said}, which does not add up` : said;
}
