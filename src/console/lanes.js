/**
 * One lane per node: its fair part of what is free, where it lies beside the others', and the buffer that reaches into their parts.
 *
 * A node that dies is seen dying: late, then gone. Its part stays where it was, grey, and the others' grow over it.
 */

import {attribute, h, list, part, span, text, the} from './dom.js';
import * as words from './words.js';

/** So many pools have a bar each in every lane; of more, one is chosen. */
const BARS = 3;

/**
 * @typedef {import('./types.js').Node} Node
 * @typedef {import('./types.js').Shard} Shard
 * @typedef {{begin: number, fair: number, left: number, buffer: number, shard: Shard | null}} Bar Parts of what is free.
 */

/** Where the part of each node was last, by sale, pool and node. @type {Map<string, Bar>} */
const last = new Map();
/** @type {() => void} */
let redraw = () => {};

/** @param {() => void} again */
export function begin(again) {
  redraw = again;
  the('lanes-pool').addEventListener('change', () => redraw());
}

/** @param {import('./app.js').View} view */
export function show({snapshot, sale}) {
  the('lanes-note').hidden = snapshot.nodes.length > 0;
  text(the('lanes-note'), snapshot.roles.includes('gateway') ? 'No heartbeat has been heard yet.' : `${snapshot.node} is no gateway and hears of none. Open the console of one.`);
  const pools = sale === null ? [] : chosenPools(sale.pools.map(({pool}) => pool));
  const nodes = [...snapshot.nodes].sort((a, b) => (a.node < b.node ? -1 : 1));
  mark(nodes);
  const bars = new Map(pools.map((pool) => [pool, layout(nodes, sale?.sale ?? '', pool)]));
  list(
    the('lanes'),
    nodes,
    ({node}) => node,
    lane,
    (item, node) => update(item, node, {pools, bars}),
  );
  forget(snapshot.nodes);
}

/** @param {string[]} pools */
function chosenPools(pools) {
  const [label, select] = [the('lanes-pool-label'), the('lanes-pool', HTMLSelectElement)];
  label.hidden = pools.length <= BARS;
  if (label.hidden) return pools;
  list(
    select,
    pools,
    (pool) => pool,
    (pool) => h('option', {value: pool}, pool),
    () => {},
  );
  return [pools.includes(select.value) ? select.value : (pools[0] ?? '')];
}

/** @param {Node[]} nodes */
function mark(nodes) {
  const chip = the('lanes-mark');
  const of = (/** @type {string} */ state) => nodes.filter((node) => node.state === state).length;
  const [alive, late, gone] = [of('alive'), of('late'), of('gone')];
  const said = [nodes.length > 0 ? `${alive} alive` : 'none heard', late > 0 ? `${late} late` : '', gone > 0 ? `${gone} gone` : ''];
  text(chip, said.filter(Boolean).join(', '));
  chip.dataset.is = gone > 0 ? 'bad' : late > 0 ? 'warn' : alive > 0 ? 'good' : 'off';
}

/**
 * Where each node's part of a pool lies: side by side for those that count, and where it was for those that do not.
 *
 * @param {Node[]} nodes
 * @param {string} sale
 * @param {string} pool
 * @returns {Map<string, Bar>}
 */
function layout(nodes, sale, pool) {
  const counts = (/** @type {Node} */ node) => node.state === 'alive' || node.state === 'late';
  const shard = (/** @type {Node} */ node) => node.shards[sale]?.[pool] ?? null;
  const whole = nodes.filter(counts).reduce((sum, node) => sum + (shard(node)?.fair ?? 0), 0);
  /** @type {Map<string, Bar>} */
  const bars = new Map();
  let begin = 0;
  for (const node of nodes) {
    const key = JSON.stringify([sale, pool, node.node]);
    const here = shard(node);
    if (!counts(node)) {
      const was = last.get(key);
      if (was) bars.set(node.node, {...was, shard: here});
      continue;
    }
    const [fair, left] = [here?.fair ?? 0, here?.left ?? 0];
    const of = (/** @type {number} */ units) => (whole > 0 ? units / whole : 0);
    const bar = {begin, fair: of(fair), left: of(Math.min(left, fair)), buffer: of(Math.max(0, left - fair)), shard: here};
    begin += bar.fair;
    bars.set(node.node, bar);
    last.set(key, bar);
  }
  return bars;
}

/**
 * Drops what is remembered of nodes that are not told of any more.
 *
 * @param {Node[]} nodes
 */
function forget(nodes) {
  for (const key of last.keys()) {
    const [, , node] = /** @type {string[]} */ (JSON.parse(key));
    if (!nodes.some((one) => one.node === node)) last.delete(key);
  }
}

/** @param {Node} node */
function perSecond(node) {
  return Object.values(node.claims).reduce((sum, rate) => sum + rate, 0);
}

/** @param {Node} node */
function lane(node) {
  const figure = (/** @type {string} */ name, /** @type {string} */ label) =>
    h('div', {class: `figure ${name}`}, h('dt', {}, label), h('dd', {}));
  return h(
    'li',
    {class: 'lane'},
    h('p', {class: 'who'}, h('b', {class: 'name'}, node.node), h('span', {class: 'chip'}), h('span', {class: 'tag', hidden: !node.this}, 'this node')),
    h('ul', {class: 'shards'}),
    h('dl', {}, figure('rate', 'claims/s'), figure('yes', 'yes/s'), figure('weight', 'weight'), figure('open', 'connections')),
  );
}

/**
 * @param {HTMLElement} item
 * @param {Node} node
 * @param {{pools: string[], bars: Map<string, Map<string, Bar>>}} among
 */
function update(item, node, {pools, bars}) {
  item.dataset.is = node.state;
  const chip = part(item, 'chip');
  const sick = node.state === 'alive' && node.ready === false;
  text(chip, sick ? 'not ready' : stateWords(node));
  chip.dataset.is = {alive: sick ? 'bad' : 'good', late: 'warn', gone: 'bad', left: 'off'}[node.state];
  attribute(part(item, 'name'), 'title', node.version ? `${node.node}, Rushgate ${node.version}` : node.node);
  part(item, 'tag').hidden = !node.this;
  list(
    part(item, 'shards'),
    pools,
    (pool) => pool,
    (pool) => shardBar(pool),
    (element, pool) => shardUpdate(element, {node, pool, bar: bars.get(pool)?.get(node.node) ?? null, named: pools.length > 1}),
  );
  const silent = node.state === 'gone' || node.state === 'left';
  // What a late node does is not known, though what it had is.
  const unheard = silent || node.state === 'late';
  figure(item, 'rate', unheard ? words.UNKNOWN : words.rate(perSecond(node)));
  figure(item, 'yes', unheard ? words.UNKNOWN : words.rate(node.claims.held ?? 0));
  figure(item, 'weight', String(Math.round(node.weight * 100) / 100));
  figure(item, 'open', silent ? words.UNKNOWN : words.count(node.connections));
}

/** @param {Node} node */
function stateWords(node) {
  if (node.state === 'late') return node.silent_seconds === null ? 'late' : `late, ${words.duration(node.silent_seconds)}`;
  if (node.state === 'left') return 'left';
  return node.state;
}

/**
 * @param {HTMLElement} item
 * @param {string} name
 * @param {string} said
 */
function figure(item, name, said) {
  const value = part(item, name).lastElementChild;
  if (value) text(value, said);
}

/** @param {string} pool */
function shardBar(pool) {
  const parts = ['fair', 'left', 'buffer', 'buffer wrapped'].map((name) => h('span', {class: name}));
  return h('li', {}, h('span', {class: 'pool'}, pool), h('div', {class: 'track', role: 'img'}, ...parts), h('span', {class: 'units'}));
}

/**
 * @param {HTMLElement} element
 * @param {{node: Node, pool: string, bar: Bar | null, named: boolean}} of
 */
function shardUpdate(element, {node, pool, bar, named}) {
  part(element, 'pool').hidden = !named;
  const shard = bar?.shard ?? null;
  const gone = node.state === 'gone' || node.state === 'left';
  const beyond = shard === null || shard.left === null || shard.fair === null ? null : Math.max(0, shard.left - shard.fair);
  const said = shard === null ? 'not told' : `${words.count(shard.left)} left${beyond ? `, ${words.count(beyond)} of it buffer` : ''}`;
  text(part(element, 'units'), gone ? (node.state === 'left' ? 'has left' : 'sold by the others') : said);
  const track = part(element, 'track');
  const fair = shard === null ? '' : `, fair part ${words.count(shard.fair)}`;
  attribute(track, 'aria-label', `Shard of ${pool} at ${node.node}: ${said}${fair}${gone ? `, ${node.state}` : ''}`);
  const {begin, fair: width, left, buffer} = bar ?? {begin: 0, fair: 0, left: 0, buffer: 0};
  const [fairBar, leftBar, bufferBar, wrapped] = /** @type {HTMLElement[]} */ ([...track.children]);
  if (!fairBar || !leftBar || !bufferBar || !wrapped) return;
  span(fairBar, begin, width);
  span(leftBar, begin, left);
  // The last one's buffer reaches into the first one's part.
  const end = begin + width;
  const room = Math.max(0, 1 - end);
  span(bufferBar, end, Math.min(buffer, room));
  span(wrapped, 0, Math.min(Math.max(0, buffer - room), begin));
}
