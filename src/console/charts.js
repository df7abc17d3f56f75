/** Claims per second and latency over the last five minutes; each with its numbers as a table. */

import {attribute, h, list, part, text, the} from './dom.js';
import {GROUPS, grouped} from './history.js';
import * as words from './words.js';

/** So that lines differ by more than their colour. @type {{[id: string]: number[]}} */
const DASHES = {held: [], 'sold-out': [7, 3], 'all-held': [2, 3], limit: [9, 3, 2, 3], shut: [5, 5], pending: [1, 2], trouble: [], other: [3, 6]};
const PERCENTILES = /** @type {const} */ (['p50', 'p95', 'p99', 'p999']);
/** A summary for those who do not see the chart is read when it is asked for; it need not change each second. */
const SUMMARY = 5000;

/** @type {uPlot | null} */
let claims = null;
/** @type {uPlot | null} */
let latency = null;
let summarised = 0;
/** The theme that the charts were last drawn in. */
let drawn = '';

/** @param {() => void} redraw */
export function begin(redraw) {
  for (const radio of document.querySelectorAll('input[name="claims-of"]')) {
    radio.addEventListener('change', () => {
      summarised = 0;
      redraw();
    });
  }
}

/** @param {import('./app.js').View} view */
export function show(view) {
  claims ??= claimsChart();
  latency ??= latencyChart();
  const chosen = document.querySelector('input[name="claims-of"]:checked');
  const ofSale = chosen instanceof HTMLInputElement && chosen.value === 'sale' && view.sale !== null;
  the('claims-choice').hidden = view.sale === null;
  const rates = ofSale ? (view.sale?.claims ?? {}) : view.snapshot.claims;
  const data = view.history.claims(ofSale ? (view.sale?.sale ?? null) : null);
  const window = view.history.window();
  const groups = grouped(rates);
  const heard = (/** @type {number} */ index) => (data[index + 1] ?? []).some((value) => value);
  const seen = new Set(GROUPS.filter(({id}, index) => id === 'held' || id === 'sold-out' || heard(index) || groups.get(id)?.total).map(({id}) => id));
  // What nobody heard in all that time has no line, but that of a yes.
  draw(claims, data.map((series, index) => (index === 0 || GROUPS[index - 1]?.id === 'held' || heard(index - 1) ? series : series.map(() => null))), window);
  draw(latency, view.history.latency(), window);
  claimsTable(groups, seen);
  latencyTable(view.snapshot);
  if (Date.now() - summarised > SUMMARY) {
    summarised = Date.now();
    summarise(view, groups, ofSale);
  }
}

/**
 * @param {uPlot} chart
 * @param {(number | null)[][]} data
 * @param {[number, number]} window
 */
function draw(chart, data, [min, max]) {
  const box = chart.root.parentElement;
  const [width, height] = [box?.clientWidth ?? 0, box?.clientHeight ?? 0];
  if (width === 0) return;
  if (width !== chart.width || height !== chart.height) chart.setSize({width, height});
  const theme = getComputedStyle(document.body).backgroundColor;
  chart.batch(() => {
    chart.setData(/** @type {any} */ (data), false);
    chart.setScale('x', {min, max});
    if (theme !== drawn) chart.redraw(false, true);
  });
  if (chart === latency) drawn = theme;
}

/**
 * The colour that the style gives to a class, in this theme.
 *
 * @param {string} name
 */
function colour(name) {
  const probe = the('claims-chart').ownerDocument.createElement('i');
  probe.className = `swatch ${name}`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** @type {Map<string, string>} */
const colours = new Map();
let coloursOf = '';

/** @param {string} name */
function cached(name) {
  const theme = getComputedStyle(document.body).backgroundColor;
  if (theme !== coloursOf) {
    colours.clear();
    coloursOf = theme;
  }
  const found = colours.get(name) ?? colour(name);
  colours.set(name, found);
  return found;
}

/**
 * @param {(value: number) => string} said
 * @param {number} size
 * @returns {uPlot.Axis[]}
 */
function axes(said, size) {
  const font = '12px system-ui, sans-serif';
  const lines = {stroke: () => cached('grid'), width: 1};
  return [
    {stroke: () => cached('axis'), font, grid: {show: false}, ticks: lines, space: 60, size: 28, values: (_, at) => at.map((second) => (second % 60 === 0 ? words.clock(second * 1000).slice(0, 5) : words.clock(second * 1000)))},
    {stroke: () => cached('axis'), font, grid: lines, ticks: {show: false}, size, space: 32, values: (_, values) => values.map((value) => (value === null ? '' : said(value)))},
  ];
}

function claimsChart() {
  const series = GROUPS.map(({id, words}) => ({
    label: words,
    stroke: () => cached(id),
    width: id === 'held' ? 2.5 : 1.75,
    dash: DASHES[id] ?? [],
    points: {show: false},
  }));
  return chart(the('claims-chart'), {
    series: [{}, ...series],
    axes: axes((value) => words.rate(value), 52),
    scales: {x: {time: true, auto: false}, y: {range: (_, __, most) => [0, Math.max(1, (most ?? 0) * 1.1)]}},
  });
}

function latencyChart() {
  const series = ['held', 'refused'].flatMap((kind) =>
    ['p50', 'p95', 'p99'].map((part, index) => ({
      label: `${kind} ${part}`,
      stroke: () => cached(kind === 'held' ? 'held' : 'sold-out'),
      width: [2.5, 1.5, 1][index] ?? 1,
      dash: [[], [6, 3], [2, 3]][index] ?? [],
      points: {show: false},
    })),
  );
  return chart(the('latency-chart'), {
    series: [{}, ...series],
    axes: axes((value) => words.duration(value), 60).map((axis, index) => (index === 1 ? {...axis, splits: (_, __, least, most) => tens(least, most)} : axis)),
    scales: {x: {time: true, auto: false}, y: {distr: 3, range: (_, least, most) => decades(least, most)}},
  });
}

/**
 * Whole decades around what there is.
 *
 * @param {number | null} least
 * @param {number | null} most
 * @returns {[number, number]}
 */
function decades(least, most) {
  if (!least || !most) return [0.0001, 0.1];
  const [low, high] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  return [10 ** low, 10 ** (high > low ? high : low + 1)];
}

/**
 * @param {number} least
 * @param {number} most
 */
function tens(least, most) {
  const [low, high] = [Math.round(Math.log10(least)), Math.round(Math.log10(most))];
  return Array.from({length: high - low + 1}, (_, index) => 10 ** (low + index));
}

/**
 * @param {HTMLElement} box
 * @param {Pick<uPlot.Options, 'series' | 'axes' | 'scales'>} options
 */
function chart(box, options) {
  const made = new uPlot(
    {width: Math.max(box.clientWidth, 200), height: Math.max(box.clientHeight, 120), legend: {show: false}, cursor: {drag: {x: false, y: false}, points: {show: false}}, ...options},
    /** @type {any} */ (options.series.map(() => [])),
    box,
  );
  // The table beside it says it all; a canvas says nothing to those who do not see it.
  made.root.setAttribute('aria-hidden', 'true');
  new ResizeObserver(() => {
    const [width, height] = [box.clientWidth, box.clientHeight];
    if (width > 0 && (width !== made.width || height !== made.height)) made.setSize({width, height});
  }).observe(box);
  return made;
}

/**
 * @param {Map<string, import('./history.js').Figure>} groups
 * @param {Set<string>} seen
 */
function claimsTable(groups, seen) {
  const body = tableBody(the('claims-table'), ['Answer', 'per second', 'in all']);
  list(
    body,
    GROUPS.filter(({id}) => seen.has(id)),
    ({id}) => id,
    ({id, words}) => h('tr', {}, h('th', {scope: 'row'}, h('i', {class: `swatch line ${id}`, 'aria-hidden': 'true'}), words), h('td', {class: 'number now'}), h('td', {class: 'number total'})),
    (row, {id}) => {
      text(part(row, 'now'), words.rate(groups.get(id)?.perSecond ?? (groups.get(id)?.total ? null : 0)));
      text(part(row, 'total'), words.count(groups.get(id)?.total));
    },
  );
}

/** @param {import('./types.js').Snapshot} snapshot */
function latencyTable(snapshot) {
  const body = tableBody(the('latency-table'), [null, ['p50', 'half'], ['p95', '95\u00a0%'], ['p99', '99\u00a0%'], '99.9\u00a0%']);
  const kinds = [
    {id: 'held', words: 'a yes', is: snapshot.latency.held},
    {id: 'sold-out', words: 'a refusal', is: snapshot.latency.refused},
  ];
  list(
    body,
    kinds,
    ({id}) => id,
    ({id, words}) => h('tr', {}, h('th', {scope: 'row'}, h('i', {class: `swatch line ${id}`, 'aria-hidden': 'true'}), words), ...PERCENTILES.map((name) => h('td', {class: `number ${name}`}))),
    (row, {is}) => {
      for (const name of PERCENTILES) text(part(row, name), words.duration(is?.[name]));
    },
  );
}

/**
 * @param {HTMLElement} box
 * @param {(string | [line: string, string] | null)[]} head
 */
function tableBody(box, head) {
  const there = box.querySelector('tbody');
  if (there) return there;
  const body = h('tbody');
  box.append(h('table', {}, h('thead', {}, h('tr', {}, ...head.map(column))), body));
  return body;
}

/**
 * @param {string | [line: string, string] | null} name
 * @param {number} index
 */
function column(name, index) {
  if (name === null) return h('td');
  const [line, said] = typeof name === 'string' ? ['', name] : name;
  return h('th', {scope: 'col', class: index > 0 ? 'number' : ''}, line !== '' && h('i', {class: `swatch line ${line}`, 'aria-hidden': 'true'}), said);
}

/**
 * @param {import('./app.js').View} view
 * @param {Map<string, import('./history.js').Figure>} groups
 * @param {boolean} ofSale
 */
function summarise({snapshot, sale}, groups, ofSale) {
  const told = GROUPS.filter(({id}) => (groups.get(id)?.perSecond ?? 0) > 0).map(({id, words: name}) => `${words.rate(groups.get(id)?.perSecond)} ${name}`);
  const of = ofSale ? (sale?.name ?? '') : 'all sales';
  text(the('claims-words'), `of ${of} over five minutes; now ${told.length > 0 ? told.join(', ') : 'none'}. The table below has the numbers.`);
  const {held, refused} = snapshot.latency;
  text(the('latency-words'), `over five minutes; now half of the yes within ${words.duration(held?.p50)}, 99 in 100 within ${words.duration(held?.p99)}; of refusals ${words.duration(refused?.p50)} and ${words.duration(refused?.p99)}.`);
  attribute(the('claims-chart'), 'data-of', ofSale ? 'sale' : 'all');
}
