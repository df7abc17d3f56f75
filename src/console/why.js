/** Why was this claim refused? Asked by buyer or by order. */

import {get, Problem} from './api.js';
import {h, the} from './dom.js';
import * as report from './report.js';
import * as words from './words.js';

const ORDER = /^[0-9a-f]{32}$/;

/** @type {import('./types.js').Sale | null} */
let sale = null;

export function begin() {
  the('why-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const of = the('why-of', HTMLInputElement).value.trim();
    if (of !== '') void ask(of);
  });
}

/** @param {import('./app.js').View} view */
export function show(view) {
  sale = view.sale;
}

/** @param {string} of */
async function ask(of) {
  const order = of.toLowerCase();
  const isOrder = ORDER.test(order);
  if (!isOrder && sale === null) return report.open('Why?', [h('p', {class: 'said', 'data-is': 'bad'}, 'There is no sale whose buyer this could be.')]);
  const title = isOrder ? `Order ${order}` : `${of} at ${sale === null ? '' : words.called(sale)}`;
  const stop = new AbortController();
  report.open(title, [h('p', {class: 'wait'}, 'Asks the node …')], () => stop.abort());
  try {
    report.show(body(await (isOrder ? byOrder(order, of, stop.signal) : byBuyer(of, stop.signal))));
  } catch (error) {
    if (!stop.signal.aborted) report.show([h('p', {class: 'said', 'data-is': 'bad'}, error instanceof Error ? error.message : String(error))]);
  }
}

/**
 * A buyer's id may look like an order's.
 *
 * @param {string} order
 * @param {string} of
 * @param {AbortSignal} stop
 * @returns {Promise<Why>}
 */
async function byOrder(order, of, stop) {
  try {
    return await get(`/admin/v1/why?${new URLSearchParams({order})}`, stop);
  } catch (error) {
    if (!(error instanceof Problem && error.status === 404) || sale === null) throw error;
    const told = await byBuyer(of, stop);
    report.title(`${of} at ${words.called(sale)}: no order, and asked as a buyer`);
    return told;
  }
}

/**
 * @param {string} buyer
 * @param {AbortSignal} stop
 * @returns {Promise<Why>}
 */
function byBuyer(buyer, stop) {
  return get(`/admin/v1/why?${new URLSearchParams({sale: sale?.sale ?? '', buyer})}`, stop);
}

/** @type {{[verdict: string]: string}} */
const SIGNS = {would_be_granted: 'good', held: 'good', paid: 'good'};

/**
 * @typedef {object} Why
 * @property {string} verdict
 * @property {string} because
 * @property {{code: string, because: string}[]} [also]
 * @property {unknown} [facts]
 * @property {{at: string, code: string}[]} [told]
 * @property {{says?: string, begun_at?: string}} [memory]
 * @property {{at: string, what: string, says: string}[]} [story] Of an order.
 */

/** @param {Why} why */
function body(why) {
  const {verdict, because, also = [], facts, told, memory, story, ...rest} = why;
  return [
    h('p', {class: 'said', 'data-is': SIGNS[verdict] ?? 'warn', id: 'why-verdict'}, h('b', {}, words.spoken(verdict)), ` ${because}`),
    also.length > 0 && h('h3', {}, 'And besides'),
    ...also.map(({code, because}) => h('p', {}, h('b', {}, words.spoken(code)), ` ${because}`)),
    story !== undefined && story.length > 0 && h('h3', {}, 'What became of it'),
    story !== undefined && story.length > 0 && h('ol', {class: 'story'}, ...story.map(({at, says}) => h('li', {}, h('time', {datetime: at}, words.moment(at)), ` ${says}`))),
    told !== undefined && h('h3', {}, 'What this node told last'),
    ...(told ?? []).map(({at, code}) => h('p', {}, `${words.moment(at)}: ${words.spoken(code)}`)),
    told?.length === 0 && h('p', {}, `No refusal of this buyer is remembered${memory?.begun_at ? ` since ${words.moment(memory.begun_at)}` : ''}.`),
    memory?.says !== undefined && h('p', {class: 'note'}, memory.says),
    facts !== undefined && h('h3', {}, 'What is known'),
    facts !== undefined && tree(facts),
    Object.keys(rest).length > 0 && tree(rest),
  ];
}

/**
 * A document as terms and their values.
 *
 * @param {unknown} value
 * @returns {HTMLElement}
 */
function tree(value) {
  if (Array.isArray(value)) {
    if (value.length === 0) return h('span', {}, 'none');
    if (value.every((item) => typeof item !== 'object' || item === null)) return h('span', {}, value.map((item) => words.value(item)).join(', '));
    return h('ol', {class: 'tree'}, ...value.map((item) => h('li', {}, tree(item))));
  }
  if (typeof value === 'object' && value !== null) {
    return h('dl', {class: 'tree'}, ...Object.entries(value).map(([name, item]) => h('div', {}, h('dt', {}, words.spoken(name)), h('dd', {}, tree(item)))));
  }
  return h('span', {}, words.value(value));
}
