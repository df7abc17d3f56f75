/** The one equation of a sale, pool by pool: capacity = free + held + sold. Leg by leg, and with the store's word, on request. */

import {get} from './api.js';
import {attribute, fill, h, list, part, span, text, the} from './dom.js';
import {adds, broken, equation} from './verdict.js';
import * as words from './words.js';

/** An answer counts the orders of a sale, so the store is left in peace for so many times as long as it took. */
const REST = 20;
const SHORTEST_REST = 3000;

/** @typedef {import('./types.js').Balance} Balance */

/** @type {string | null} */
let sale = null;
/** Which question is the newest. */
let asked = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let again;

export function begin() {
  the('legs-fold').addEventListener('toggle', () => void ask());
}

/** @param {import('./app.js').View} view */
export function show({sale: chosen}) {
  the('balance-card').hidden = chosen === null;
  if (chosen === null) return;
  if (chosen.sale !== sale) {
    sale = chosen.sale;
    fill(the('legs'));
    void ask();
  }
  mark(chosen);
  const legs = Math.max(...chosen.pools.map((pool) => pool.legs), 1);
  text(the('legs-summary'), legs > 1 ? `All ${legs} legs, and what the store says` : 'What the store says');
  list(the('balance'), chosen.pools, ({pool}) => pool, bar, update);
}

/** @param {import('./types.js').Sale} sale */
function mark(sale) {
  const chip = the('balance-mark');
  const all = sale.pools.map(adds);
  /** @type {[string, string]} */
  let said = ['good', '✓ adds up'];
  if (sale.pools.some(({pool}) => broken(sale.sale, pool))) said = ['bad', '✗ does not add up'];
  else if (sale.drift_units) said = ['bad', `✗ ${words.counted(sale.drift_units, 'unit')} of drift`];
  else if (sale.quarantined) said = ['bad', `✗ ${words.counted(sale.quarantined, 'order')} in quarantine`];
  else if (all.includes(null)) said = ['warn', 'not known'];
  else if (sale.drift_units === null) said = ['good', '✓ adds up; the store was not compared here'];
  [chip.dataset.is] = said;
  text(chip, said[1]);
}

function bar() {
  return h(
    'li',
    {},
    h('p', {class: 'pool'}),
    h('p', {class: 'equation'}),
    h(
      'div',
      {class: 'stack', role: 'img'},
      ...['free', 'held', 'sold'].map((state) => h('span', {class: state})),
    ),
  );
}

/** @param {import('./types.js').Pool} pool */
function isBroken({pool}) {
  return sale !== null && broken(sale, pool);
}

/**
 * @param {HTMLElement} item
 * @param {import('./types.js').Pool} pool
 */
function update(item, pool) {
  text(part(item, 'pool'), pool.legs > 1 ? `${pool.pool}, its scarcest leg` : pool.pool);
  figures(part(item, 'equation'), pool);
  const stack = part(item, 'stack');
  attribute(stack, 'aria-label', `${pool.pool}: ${equation(pool, isBroken(pool))}`);
  item.dataset.is = isBroken(pool) ? 'bad' : '';
  const whole = Math.max(pool.capacity, (pool.free ?? 0) + (pool.held ?? 0) + (pool.sold ?? 0), 1);
  let begin = 0;
  for (const state of /** @type {const} */ (['free', 'held', 'sold'])) {
    const width = (pool[state] ?? 0) / whole;
    span(part(stack, state), begin, width);
    begin += width;
  }
}

/**
 * @param {HTMLElement} box
 * @param {import('./types.js').Pool} pool
 */
function figures(box, pool) {
  const said = equation(pool, isBroken(pool));
  if (box.dataset.said === said) return;
  box.dataset.said = said;
  const {capacity, free, held, sold} = pool;
  /**
   * @param {number | null} number
   * @param {string} state
   */
  const term = (number, state) => [h('b', {class: `n-${state}`}, words.count(number)), h('i', {}, ` ${state}`)];
  const ends = isBroken(pool) ? h('strong', {class: 'wrong'}, ` ✗ that is ${words.count((free ?? 0) + (held ?? 0) + (sold ?? 0))}`) : null;
  fill(box, h('b', {class: 'n-capacity'}, words.count(capacity)), ' = ', term(free, 'free'), ' + ', term(held, 'held'), ' + ', term(sold, 'sold'), ends);
}

/** Asks for all legs, and again for as long as they are looked at. */
async function ask() {
  const mine = ++asked;
  clearTimeout(again);
  const fold = the('legs-fold', HTMLDetailsElement);
  if (!fold.open || sale === null) return;
  const begun = performance.now();
  try {
    if (!document.hidden) {
      /** @type {Balance} */
      const balance = await get(`/admin/v1/sales/${sale}/balance`);
      if (mine === asked) detail(balance);
    }
  } catch (error) {
    if (mine !== asked) return;
    const said = error instanceof Error ? error.message : String(error);
    const box = the('legs');
    if (box.childElementCount === 0 || box.querySelector('.said')) fill(box, h('p', {class: 'said', 'data-is': 'bad'}, said));
  }
  if (mine === asked) again = setTimeout(() => void ask(), Math.max(SHORTEST_REST, (performance.now() - begun) * REST));
}

/** @param {Balance} balance */
function detail(balance) {
  const seats = balance.legs.some((leg) => leg.from !== null);
  const head = ['Pool', ...(seats ? ['Leg'] : []), 'Capacity', 'Free', 'Held', 'Sold', 'Store: held', 'Store: paid', ''];
  const rows = balance.legs.map((leg) => {
    const number = [leg.capacity, leg.free, leg.held, leg.sold, leg.store?.held, leg.store?.paid];
    const [is, said] = legMark(leg, balance.drift.in_motion);
    return h(
      'tr',
      {'data-is': is},
      h('th', {scope: 'row'}, leg.pool),
      seats && h('td', {}, `${leg.from} – ${leg.to}`),
      ...number.map((number) => h('td', {class: 'number'}, words.count(number))),
      h('td', {}, said),
    );
  });
  const table = h(
    'table',
    {},
    h('thead', {}, h('tr', {}, ...head.map((name, index) => h('th', {scope: 'col', class: index > (seats ? 1 : 0) && name ? 'number' : ''}, name)))),
    h('tbody', {}, ...rows),
  );
  const orders = Object.entries(balance.orders).map(([status, {orders, units}]) => `${words.count(orders)} ${status} (${words.counted(units, 'unit')})`);
  // Whoever is in the table stays where he is.
  const had = the('legs').querySelector('.scroll');
  const region = had ?? h('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Every leg'});
  fill(region, table);
  const notes = [
    drift(balance),
    h('p', {class: 'note'}, `Orders in the store: ${orders.length > 0 ? words.joined(orders) : 'none'}.`),
    h('p', {class: 'note'}, motion(balance)),
    h('p', {class: 'note'}, `As of ${words.clock(balance.at)}.`),
  ];
  if (had === null) fill(the('legs'), region);
  while (region.nextSibling) region.nextSibling.remove();
  the('legs').append(...notes.filter((note) => note !== null));
}

/**
 * What is said of a leg, and how bad it is.
 *
 * @param {import('./types.js').Leg} leg
 * @param {boolean} inMotion
 * @returns {[is: string, said: string]}
 */
function legMark({balanced, free, store, capacity}, inMotion) {
  if (!balanced) return ['bad', '✗ does not add up'];
  if (store === null || free === null) return ['', '✓ adds up; the store was not compared'];
  if (free === capacity - store.held - store.paid) return ['', '✓ adds up'];
  return inMotion ? ['', '… the store differs for now'] : ['bad', '✗ the store differs'];
}

/**
 * A difference that nothing on its way explains.
 *
 * @param {Balance} balance
 */
function drift({drift}) {
  if (drift.units === 0 || drift.in_motion) return null;
  const orders = drift.orders.length > 0 ? `: ${drift.orders.join(', ')}` : '';
  const unnamed = drift.why_no_orders ? `. Which orders, is not known: ${drift.why_no_orders}` : orders;
  return h('p', {class: 'said', 'data-is': 'bad', id: 'legs-drift'}, `Inventory and store differ by ${words.counted(drift.units, 'unit')}${unnamed}.`);
}

/** @param {Balance} balance */
function motion(balance) {
  /** @type {[number, string, string?][]} */
  const figures = [
    [balance.outbox_entries, 'outbox entry', 'outbox entries'],
    [balance.stock_moves, 'stock move waits', 'stock moves wait'],
    [balance.refunds_due, 'refund is due', 'refunds are due'],
    [balance.late_payments, 'late payment'],
    [balance.stale, 'order of an earlier epoch', 'orders of an earlier epoch'],
    [balance.quarantined, 'order in quarantine', 'orders in quarantine'],
    [balance.dead_letters ?? 0, 'dead letter'],
  ];
  const there = figures.filter(([number]) => number > 0).map(([number, one, many]) => words.counted(number, one, many));
  if (balance.drift.units > 0 && balance.drift.in_motion) there.push(`${words.counted(balance.drift.units, 'unit')} of difference to the store, while orders are on their way`);
  if (balance.why_no_lanes) there.push(`what the broker has, which is not known: ${balance.why_no_lanes}`);
  if (there.length > 0) return `On its way: ${words.joined(there)}.`;
  return balance.drift.units > 0 ? 'Nothing is on its way.' : 'Nothing is on its way, and the store agrees.';
}
