/** The list of sales, which one is chosen, and the head of its page. The choice is in the address, so that it can be kept and sent. */

import {attribute, h, list, part, span, text, the} from './dom.js';
import * as words from './words.js';

/**
 * @typedef {import('./types.js').Sale} Sale
 * @typedef {import('./types.js').Snapshot} Snapshot
 */

/** More than these are filtered rather than looked through. */
const MANY = 8;

/** The sale that was shown last. @type {string | null} */
let kept = null;

/** @param {() => void} redraw */
export function begin(redraw) {
  addEventListener('hashchange', () => {
    redraw();
    // Where the list folds, whoever has chosen wants to see the sale.
    if (narrow.matches) fold();
  });
  the('sales-filter').addEventListener('input', redraw);
  const narrow = matchMedia('(max-width: 900px)');
  const fold = () => attribute(the('sales-fold'), 'open', !narrow.matches);
  narrow.addEventListener('change', fold);
  fold();
}

/**
 * Where the address names no sale, it is given the one that was shown last, and the first one of the first snapshot: the page goes to no other
 * sale by itself, whatever their order becomes.
 *
 * @param {Snapshot} snapshot
 */
export function settle(snapshot) {
  const id = named() ?? kept ?? snapshot.sales[0]?.sale ?? null;
  if (id !== null && named() === null) history.replaceState(null, '', link(id));
  kept = id;
}

/**
 * The sale that the address names: whoever wants one sale shall not act on another.
 *
 * @param {Snapshot} snapshot
 * @returns {Sale | null}
 */
export function chosen(snapshot) {
  const id = named();
  return snapshot.sales.find(({sale}) => sale === id) ?? null;
}

function named() {
  return new URLSearchParams(location.hash.slice(1)).get('sale');
}

/** @param {string} sale */
export function link(sale) {
  return `#${new URLSearchParams({sale})}`;
}

/** @param {import('./app.js').View} view */
export function show({snapshot, sale}) {
  const filter = the('sales-filter', HTMLInputElement);
  filter.hidden = snapshot.sales.length <= MANY;
  const wanted = filter.hidden ? '' : filter.value.trim().toLowerCase();
  const shown = snapshot.sales.filter(({sale, name}) => `${sale} ${name}`.toLowerCase().includes(wanted));
  text(the('sales-count'), words.count(snapshot.sales_count));
  list(the('sales-list'), shown, ({sale}) => sale, entry, (item, one) => update(item, one, one === sale));
  note(snapshot, shown.length);
  empty(snapshot, sale);
  the('sale').hidden = sale === null;
  if (sale !== null) head(sale, snapshot);
}

/**
 * What is said where there is no sale to show.
 *
 * @param {Snapshot} snapshot
 * @param {Sale | null} sale
 */
function empty(snapshot, sale) {
  const missing = named();
  the('empty').hidden = sale !== null || (missing === null && snapshot.sales_count === null);
  if (missing === null) {
    text(the('empty-title'), 'No sale yet');
    text(the('empty-said'), 'Make one, and it appears here by itself:');
    text(the('empty-command'), 'rushgate sale create concert-1 concert-1.json');
  } else {
    text(the('empty-title'), `No news of ${missing}`);
    text(the('empty-said'), 'There is no such sale, or so many sell before it that this page is not told of it. Then this tells of it:');
    text(the('empty-command'), `rushgate sale balance ${missing}`);
  }
}

/**
 * @param {Snapshot} snapshot
 * @param {number} shown
 */
function note(snapshot, shown) {
  const hidden = (snapshot.sales_count ?? 0) - snapshot.sales.length;
  /** @type {string[]} */
  const said = [];
  if (shown === 0 && snapshot.sales.length > 0) said.push('None fits.');
  if (hidden > 0) said.push(`${words.counted(hidden, 'more sale')} that ${hidden === 1 ? 'is' : 'are'} further from selling: rushgate sale list`);
  the('sales-note').hidden = said.length === 0;
  text(the('sales-note'), said.join(' '));
}

/** @param {Sale} sale */
function entry(sale) {
  return h(
    'li',
    {},
    h('a', {href: link(sale.sale)}, h('span', {class: 'name'}), h('span', {class: 'phase chip'}), h('span', {class: 'id'}), h('span', {class: 'taken'}), h('span', {class: 'bar', 'aria-hidden': 'true'})),
  );
}

/**
 * @param {HTMLElement} item
 * @param {Sale} sale
 * @param {boolean} isChosen
 */
function update(item, sale, isChosen) {
  attribute(part(item, 'name').parentElement ?? item, 'aria-current', isChosen ? 'page' : null);
  text(part(item, 'name'), sale.name || sale.sale);
  text(part(item, 'id'), sale.sale);
  phaseChip(part(item, 'phase'), sale.phase);
  const capacity = sale.pools.reduce((sum, pool) => sum + pool.capacity, 0);
  const known = sale.pools.every((pool) => pool.free !== null);
  const free = sale.pools.reduce((sum, pool) => sum + (pool.free ?? 0), 0);
  text(part(item, 'taken'), known ? `${words.count(free)} free` : '');
  span(part(item, 'bar'), 0, known && capacity > 0 ? 1 - free / capacity : 0);
}

/**
 * @param {HTMLElement} chip
 * @param {string} phase
 */
function phaseChip(chip, phase) {
  text(chip, words.phase(phase));
  chip.dataset.is = {open: 'good', paused: 'warn', closed: 'off'}[phase] ?? 'plain';
}

/**
 * @param {Sale} sale
 * @param {Snapshot} snapshot
 */
function head(sale, snapshot) {
  text(the('sale-name'), sale.name || sale.sale);
  const facts = [sale.sale, when(sale, snapshot), `version ${sale.version}`];
  const phase = h('span', {class: 'chip'});
  const legs = Math.max(...sale.pools.map((pool) => pool.legs), 1);
  if (legs > 1) facts.push(words.counted(legs, 'leg'));
  const box = the('sale-facts');
  const said = `${sale.phase} ${facts.join(' ')}`;
  if (box.dataset.said === said) return;
  box.dataset.said = said;
  phaseChip(phase, sale.phase);
  box.replaceChildren(phase, ...facts.map((fact) => h('span', {}, fact)));
}

/**
 * @param {Sale} sale
 * @param {Snapshot} snapshot
 */
function when(sale, snapshot) {
  const now = Date.parse(snapshot.at);
  const closes = sale.closes_at ? `, closes ${words.moment(sale.closes_at)}` : '';
  if (sale.phase === 'not_open') {
    if (sale.opens_at === null) return 'opens when somebody says so';
    const wait = Date.parse(sale.opens_at) - now;
    return wait > 0 ? `opens ${words.moment(sale.opens_at)}${closes}` : 'about to open';
  }
  if (sale.phase === 'closed') return sale.closes_at ? `closed since ${words.moment(sale.closes_at)}` : 'closed for good';
  return `opened ${words.moment(sale.opens_at)}${closes}`;
}
