/** The buffer: what is set, what another would do now, and its change. */

import * as actions from './actions.js';
import {get, Problem} from './api.js';
import {attribute, fill, h, text, the} from './dom.js';
import * as words from './words.js';

/** After the last movement of the slider. */
const SETTLED = 150;
/** What is free changes while nobody moves anything. */
const REFRESH = 5000;

/**
 * @typedef {import('./types.js').Plan} Plan
 * @typedef {import('./types.js').Sale} Sale
 */

/** @type {Sale | null} */
let sale = null;
/** What is set, as the inputs were last given it; another one than this has been moved by hand. */
let given = '';
/** @type {Plan | null} */
let now = null;
/** @type {Plan | null} */
let then = null;
let asked = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let soon;

export function begin() {
  const [slider, amount, unit] = inputs();
  slider.addEventListener('input', () => {
    amount.value = slider.value;
    moved();
  });
  amount.addEventListener('input', () => {
    slider.value = amount.value;
    moved();
  });
  unit.addEventListener('change', () => {
    ranges();
    slider.value = amount.value;
    moved();
  });
  the('tune-advice').addEventListener('click', () => {
    if (now) enter(now.advised);
    moved();
  });
  the('tune-form').addEventListener('submit', (event) => {
    event.preventDefault();
    if (sale) actions.buffer(sale, entered());
  });
  the('tune-unset').addEventListener('click', () => {
    if (sale) actions.buffer(sale, null);
  });
  setInterval(() => void ask(), REFRESH);
}

/** @param {import('./app.js').View} view */
export function show({sale: chosen, snapshot}) {
  the('tune-card').hidden = chosen === null || !snapshot.roles.includes('gateway');
  const isOther = chosen?.sale !== sale?.sale;
  const isSet = chosen?.buffer ?? '';
  const untouched = entered() === given;
  const changed = isSet !== (sale?.buffer ?? '');
  sale = chosen;
  text(the('tune-set'), isSet === '' ? 'not known' : `${isSet} is set`);
  if (isOther) [now, then] = [null, null];
  if (isOther || (changed && untouched)) {
    enter(isSet);
    given = entered();
  }
  if (isOther || changed) void ask();
  const closed = chosen?.phase === 'closed';
  for (const id of ['tune-apply', 'tune-unset']) attribute(the(id), 'disabled', closed);
  attribute(the('tune-apply'), 'data-moved', entered() !== isSet);
}

function moved() {
  clearTimeout(soon);
  soon = setTimeout(() => void ask(), SETTLED);
}

/** @returns {[HTMLInputElement, HTMLInputElement, HTMLSelectElement]} */
function inputs() {
  return [the('tune-slider', HTMLInputElement), the('tune-amount', HTMLInputElement), the('tune-unit', HTMLSelectElement)];
}

/** The buffer in the inputs, as the API writes it. */
function entered() {
  const [, amount, unit] = inputs();
  return amount.value === '' ? '' : `${Number(amount.value)}${unit.value}`;
}

/** @param {string} buffer */
function enter(buffer) {
  const [slider, amount, unit] = inputs();
  unit.value = buffer.endsWith('%') || buffer === '' ? '%' : '';
  amount.value = String(Number.parseFloat(buffer) || 0);
  ranges();
  slider.value = amount.value;
}

function ranges() {
  const [slider, amount, unit] = inputs();
  const value = Number(amount.value);
  const percent = unit.value === '%';
  const free = Math.max(...(now?.pools ?? []).map((pool) => pool.free_max), 100);
  amount.max = percent ? '1000' : '4294967295';
  amount.step = percent ? 'any' : '1';
  if (!percent) amount.value = String(Math.round(value));
  slider.max = String(percent ? Math.min(1000, Math.max(100, Math.ceil(value / 100) * 100)) : Math.max(free, value));
  // Fine enough for an advice such as 33.4 %, where a key moves it by one.
  slider.step = percent && !Number.isInteger(value) ? 'any' : '1';
}

async function ask() {
  if (sale === null || document.hidden || the('tune-card').hidden || document.documentElement.dataset.feed === 'lost') return;
  const mine = ++asked;
  const [of, wanted] = [sale.sale, entered()];
  try {
    const path = `/admin/v1/sales/${of}/plan`;
    const [set, preview] = await Promise.all([get(path), wanted === '' ? null : get(`${path}?${new URLSearchParams({buffer: wanted})}`)]);
    if (mine !== asked) return;
    [now, then] = [set, preview];
    draw();
  } catch (error) {
    if (mine !== asked) return;
    then = null;
    const said = error instanceof Problem ? error.message : String(error);
    fill(the('tune-preview'), h('p', {class: 'said', 'data-is': 'bad'}, said));
    text(the('tune-words'), '');
  }
}

function draw() {
  if (now === null) return;
  const set = now;
  const wanted = then ?? now;
  const advice = the('tune-advice');
  advice.hidden = false;
  text(advice, `Advised: ${set.advised}`);
  attribute(advice, 'disabled', entered() === set.advised);
  const moved = wanted.buffer !== set.buffer;
  /**
   * @param {number} before
   * @param {number} after
   */
  const cell = (before, after) =>
    h('td', {class: 'number'}, moved && before !== after ? [h('s', {}, words.count(before)), h('span', {class: 'unseen'}, ' becomes ')] : null, h('b', {}, words.count(after)));
  const rows = wanted.pools.map((pool) => {
    const before = set.pools.find((one) => one.pool === pool.pool) ?? pool;
    return h(
      'tr',
      {},
      h('th', {scope: 'row'}, pool.pool),
      cell(before.buffer_units, pool.buffer_units),
      cell(before.stranded_units, pool.stranded_units),
      cell(before.needless_claims_max, pool.needless_claims_max),
      h('td', {class: 'number'}, `${words.count(pool.buffer_used_units)} / ${words.count(pool.buffer_wasted_units)}`),
    );
  });
  const head = ['Pool', 'Buffer per node', 'Unsold while a node dies', 'Needless calls, at most', 'Used / wasted so far'];
  fill(
    the('tune-preview'),
    h(
      'table',
      {},
      h('caption', {class: 'unseen'}, `A buffer of ${wanted.buffer}, in units`),
      h('thead', {}, h('tr', {}, ...head.map((name, index) => h('th', {scope: 'col', class: index > 0 ? 'number' : ''}, name)))),
      h('tbody', {}, ...rows),
    ),
  );
  text(the('tune-words'), sentence(wanted));
}

/** @param {Plan} plan */
export function sentence(plan) {
  if (plan.nodes === 1) return 'One node is alone here: a buffer does nothing.';
  const sum = (/** @type {'stranded_units' | 'needless_claims_max'} */ figure) => plan.pools.reduce((sum, pool) => sum + pool[figure], 0);
  const [stranded, needless] = [sum('stranded_units'), sum('needless_claims_max')];
  const death = plan.survive === 1 ? 'if the heaviest node died now' : `if the ${plan.survive} heaviest nodes died now`;
  const unsold = stranded === 0 ? 'the others could sell everything at once' : `${words.counted(stranded, 'unit')} would wait until it counts as dead`;
  const calls = needless === 0 ? 'no claim is let through in vain' : `up to ${words.counted(needless, 'claim')} would be let through in vain`;
  return `With ${plan.buffer} at ${words.counted(plan.nodes, 'node')}: ${death}, ${unsold}; ${calls}.`;
}
