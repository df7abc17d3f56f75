/**
 * What an operator can do, each after a confirmation that names the effect in numbers.
 *
 * A confirmation asks the node first what the change would do. Its numbers go on moving with the sale until it is confirmed.
 */

import {call, get, Problem} from './api.js';
import {attribute, fill, h, list, text, the} from './dom.js';
import * as log from './log.js';
import {sentence} from './tune.js';
import * as words from './words.js';

/**
 * @typedef {import('./types.js').Sale} Sale
 * @typedef {import('./types.js').Changed} Changed
 * @typedef {import('./app.js').View} View
 *
 * @typedef {object} Deed
 * @property {string} title
 * @property {string} button
 * @property {string} done What is said when it is done.
 * @property {boolean} [danger]
 * @property {[method: string, path: string]} to
 * @property {() => unknown} [body] Undefined as long as what is entered is not a change.
 * @property {HTMLElement[]} [fields]
 * @property {() => Promise<string>} [besides] A line of the effect that is asked for.
 * @property {(view: View, would: Changed) => string[]} effect
 *
 * @typedef {object} Asked What a deed would do, and the very body of which that was said.
 * @property {unknown} body
 * @property {Changed} answer
 * @property {string[]} besides
 */

/** After the last keystroke. */
const SETTLED = 200;

/** @type {View | null} */
let view = null;
/** @type {Deed | null} */
let deed = null;
/** @type {Asked | null} */
let would = null;
/** @type {'asking' | 'ready' | 'refused' | 'doing' | 'done'} */
let stage = 'asking';
let asked = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let soon;

export function begin() {
  the('drain').addEventListener('click', () => {
    if (view) open(drain(view));
  });
  the('confirm-no').addEventListener('click', () => the('confirm', HTMLDialogElement).close());
  the('confirm').addEventListener('close', () => {
    // It is told late, and the next confirmation may be open by then.
    if (the('confirm', HTMLDialogElement).open) return;
    deed = null;
    forget();
    keepFocus();
  });
  // What is being done cannot be called back, and how it ends must be seen.
  the('confirm').addEventListener('cancel', (event) => {
    if (stage === 'doing') event.preventDefault();
  });
  the('confirm-form').addEventListener('submit', (event) => {
    event.preventDefault();
    if (stage === 'ready') void perform();
    else if (stage === 'done') the('confirm', HTMLDialogElement).close();
  });
  the('confirm-fields').addEventListener('input', () => {
    forget();
    soon = setTimeout(() => void ask(), SETTLED);
    become('asking');
  });
}

/** Nothing that was asked until now answers for what is entered. */
function forget() {
  clearTimeout(soon);
  asked += 1;
  would = null;
  fill(the('confirm-effect'));
  text(the('confirm-told'), '');
  said('', '');
}

/** @param {View} now */
export function show(now) {
  view = now;
  const {sale, snapshot} = now;
  const focused = the('sale-actions').contains(document.activeElement);
  list(
    the('sale-actions'),
    sale === null ? [] : possible(sale),
    ({id}) => id,
    ({id, words: said}) =>
      h('button', {type: 'button', id: `do-${id}`, class: id === 'close' ? 'danger' : '', onclick: () => begun(id)}, `${said} …`),
    () => {},
  );
  if (focused) keepFocus();
  attribute(the('drain'), 'disabled', snapshot.draining);
  text(the('drain'), snapshot.draining ? `${snapshot.node} drains` : `Drain ${snapshot.node} …`);
  effect();
}

/** A button that has done its work goes, and whoever was on it without a mouse shall not be sent back to the top of the page. */
function keepFocus() {
  if (document.activeElement === document.body) the('sale-actions').querySelector('button')?.focus();
}

/** @param {Sale} sale */
function possible({phase}) {
  const all = [
    {id: 'open', words: 'Open now', when: ['not_open']},
    {id: 'pause', words: 'Pause', when: ['open']},
    {id: 'resume', words: 'Resume', when: ['paused']},
    {id: 'stock', words: 'Add stock', when: ['not_open', 'open', 'paused', 'closed']},
    {id: 'close', words: 'Close', when: ['not_open', 'open', 'paused']},
  ];
  return all.filter(({when}) => when.includes(phase));
}

/** @param {string} id */
function begun(id) {
  const sale = view?.sale;
  if (!sale) return;
  open(id === 'stock' ? stock(sale) : plain(sale, id));
}

// ── what each of them does, in words ──

/**
 * The figures of a sale, as far as they are known.
 *
 * @param {View} view
 * @param {string} id
 */
function figures({snapshot}, id) {
  const sale = snapshot.sales.find(({sale}) => sale === id);
  const sum = (/** @type {'free' | 'held' | 'sold'} */ state) => {
    const all = (sale?.pools ?? []).map((pool) => pool[state]);
    return all.includes(null) || all.length === 0 ? null : all.reduce((sum, units) => (sum ?? 0) + (units ?? 0), 0);
  };
  const legs = Math.max(...(sale?.pools ?? []).map((pool) => pool.legs), 1);
  const units = (/** @type {number | null} */ number) => `${words.count(number)} ${number === 1 ? 'unit' : 'units'}`;
  return {free: units(sum('free')), held: units(sum('held')), sold: units(sum('sold')), where: legs > 1 ? ' (on the scarcest leg of each pool)' : ''};
}

/**
 * @param {Sale} sale
 * @param {string} id
 * @returns {Deed}
 */
function plain({sale, name}, id) {
  const called = words.called({sale, name});
  /** @type {{[id: string]: Pick<Deed, 'title' | 'button' | 'done' | 'danger' | 'effect'>}} */
  const deeds = {
    open: {
      title: `Open ${called} now?`,
      button: 'Open the sale',
      done: 'It is open.',
      effect: (view) => {
        const {free, where} = figures(view, sale);
        const opens = view.snapshot.sales.find((one) => one.sale === sale)?.opens_at;
        return [`Buyers may claim from this moment${opens ? `, and not only from ${words.moment(opens)}` : ''}.`, `${free} are free${where}.`];
      },
    },
    pause: {
      title: `Pause ${called}?`,
      button: 'Pause the sale',
      done: 'It is paused.',
      effect: (view) => {
        const {free, held, where} = figures(view, sale);
        return [
          'Who claims from now on hears “409 paused”, at every node.',
          `${free} stay free until it is resumed${where}.`,
          `${held} are held and unpaid. Paying and cancelling go on; holds that run out give their units back.`,
        ];
      },
    },
    resume: {
      title: `Resume ${called}?`,
      button: 'Resume the sale',
      done: 'It goes on.',
      effect: (view) => {
        const {free, held, where} = figures(view, sale);
        return [`Buyers may claim again, within its window. ${free} are free${where}, ${held} held and unpaid.`];
      },
    },
    close: {
      title: `Close ${called} for good?`,
      button: 'Close it for good',
      done: 'It is closed.',
      danger: true,
      effect: (view) => {
        const {free, held, sold, where} = figures(view, sale);
        return [
          'This cannot be taken back: a closed sale never opens again. To stop it for a while, pause it.',
          'Who claims from now on hears “410 closed”, at every node.',
          `${free} stay unsold${where}; ${sold} are sold and stay so.`,
          `${held} are held and unpaid. They may still be paid until they run out.`,
        ];
      },
    },
  };
  const found = deeds[id];
  if (!found) throw new Error(`There is no ${id}.`);
  return {...found, to: ['POST', `/admin/v1/sales/${sale}/${id}`]};
}

/**
 * @param {Sale} sale
 * @returns {Deed}
 */
function stock(sale) {
  const pool = h('select', {id: 'stock-pool'}, ...sale.pools.map((pool) => h('option', {value: pool.pool}, pool.pool)));
  const delta = h('input', {id: 'stock-delta', type: 'number', step: 1, required: true, placeholder: 'such as 500, or -20'});
  const capacity = (/** @type {unknown} */ document) => {
    const pools = /** @type {{pools?: {id: string, capacity: number}[]} | null} */ (document)?.pools ?? [];
    return pools.find(({id}) => id === pool.value)?.capacity ?? null;
  };
  return {
    title: `Add stock to ${words.called(sale)}`,
    button: 'Change the stock',
    done: 'The stock is changed.',
    to: ['POST', `/admin/v1/sales/${sale.sale}/stock`],
    fields: [
      h('label', {for: 'stock-pool'}, 'Pool'),
      pool,
      h('label', {for: 'stock-delta'}, 'Units more, or fewer with a minus; only free ones can be taken away'),
      delta,
    ],
    body: () => (delta.value !== '' && Number.isInteger(Number(delta.value)) && Number(delta.value) !== 0 ? {pool: pool.value, delta: Number(delta.value)} : undefined),
    effect: (view, would) => {
      const now = view.snapshot.sales.find((one) => one.sale === sale.sale)?.pools.find((one) => one.pool === pool.value);
      const free = now?.free ?? null;
      const legs = now && now.legs > 1 ? ` on each of its ${now.legs} legs` : '';
      const change = Number(delta.value);
      return [
        `The capacity of ${pool.value} becomes ${words.count(capacity(would.after))} instead of ${words.count(capacity(would.before))}${legs}.`,
        `Free${legs ? ' on the scarcest' : ''}: ${words.count(free === null ? null : free + change)} instead of ${words.count(free)}. ${words.count(now?.held)} held and ${words.count(now?.sold)} sold stay as they are.`,
        heard(view.snapshot.sales.find((one) => one.sale === sale.sale)?.phase ?? sale.phase, change),
      ];
    },
  };
}

/**
 * What buyers hear of another stock.
 *
 * @param {import('./types.js').Phase} phase
 * @param {number} change
 */
function heard(phase, change) {
  if (phase === 'closed') return 'The sale is closed: who claims hears “410 closed”, as before.';
  if (change < 0) return 'Who comes later hears “sold out” sooner.';
  if (phase === 'not_open') return 'They are for sale when it opens.';
  if (phase === 'paused') return 'Who claims hears “409 paused” until it is resumed, and may get one then.';
  return 'Who heard “sold out” before may come again and get one.';
}

/**
 * Opens the confirmation of another buffer.
 *
 * @param {Sale} sale
 * @param {string | null} wanted Null: the one that the nodes are configured with.
 */
export function buffer(sale, wanted) {
  const said = wanted ?? 'what the nodes are configured with';
  const set = (/** @type {unknown} */ document) => {
    const buffer = /** @type {{buffer?: string | number} | null} */ (document)?.buffer;
    return buffer === undefined || buffer === null ? 'what the nodes are configured with' : String(buffer);
  };
  /** @type {() => Promise<string>} */
  const planned = async () => sentence(await get(`/admin/v1/sales/${sale.sale}/plan?${new URLSearchParams({buffer: wanted ?? ''})}`));
  open({
    title: `Set the buffer of ${words.called(sale)} to ${said}?`,
    button: 'Set the buffer',
    done: `The buffer is ${said}.`,
    to: ['PATCH', `/admin/v1/sales/${sale.sale}/buffer`],
    ...(wanted === null ? {} : {besides: planned}),
    body: () => ({buffer: wanted === null || wanted.endsWith('%') ? wanted : Number(wanted)}),
    effect: (view, would) => {
      const nodes = view.snapshot.nodes.filter(({state}) => state === 'alive' || state === 'late').length;
      return [`It was ${set(would.before)}. Every shard of ${words.counted(nodes, 'node')} follows within two refills; nobody is refused for it.`];
    },
  });
}

/**
 * @param {View} view
 * @returns {Deed}
 */
function drain({snapshot}) {
  return {
    title: `Drain ${snapshot.node}?`,
    button: 'Drain this node',
    done: `${snapshot.node} drains. When it has finished, this page loses it: open the console of another node.`,
    danger: true,
    to: ['POST', '/admin/v1/drain'],
    effect: ({snapshot}) => {
      const others = snapshot.nodes.filter((node) => !node.this && node.state === 'alive');
      const own = snapshot.nodes.find((node) => node.this);
      const shards = Object.values(own?.shards ?? {}).flatMap((pools) => Object.values(pools));
      // What it could let through beyond its fair part is of the others' parts.
      const fair = shards.some((shard) => shard.fair === null) ? null : shards.reduce((sum, shard) => sum + (shard.fair ?? 0), 0);
      const lines = [`It says at once that it is not ready, finishes what is in flight, and ends. It has ${words.count(own?.connections)} connections now.`];
      if (!snapshot.roles.includes('gateway')) lines.push('It is no gateway: buyers hear nothing of it. Another writer takes its lanes over, if there is one.');
      else if (others.length === 0) lines.push('No other gateway is alive: nobody can buy until one is started.');
      else lines.push(`${words.joined(others.map(({node}) => node))} ${others.length === 1 ? 'takes' : 'take'} over its part${fair === null ? '' : `, which is ${words.counted(fair, 'free unit')} now`}.`);
      if (snapshot.roles.includes('gateway') && snapshot.roles.includes('writer')) lines.push('It is a writer too: another one takes its lanes over, if there is one.');
      return lines;
    },
  };
}

// ── the confirmation ──

/** @param {Deed} wanted */
function open(wanted) {
  deed = wanted;
  forget();
  text(the('confirm-title'), wanted.title);
  text(the('confirm-yes'), wanted.button);
  the('confirm-yes').className = wanted.danger ? 'main danger' : 'main';
  fill(the('confirm-fields'), ...(wanted.fields ?? []));
  become('asking');
  the('confirm', HTMLDialogElement).showModal();
  // Whoever only presses Enter has changed nothing.
  (the('confirm-fields').querySelector('input') ?? the('confirm-no')).focus();
  void ask();
}

/** Asks what it would do. */
async function ask() {
  const mine = ++asked;
  if (deed === null) return;
  const body = deed.body?.();
  if (deed.body && body === undefined) return;
  try {
    const [method, path] = deed.to;
    const [answer, line] = await Promise.all([call(method, `${path}?dry_run=true`, body), deed.besides?.()]);
    if (mine !== asked) return;
    if (answer.effect === 'unchanged') {
      become('refused');
      return said('', 'Nothing would change: it is so already.');
    }
    would = {body, answer, besides: line === undefined ? [] : [line]};
    effect();
    if (answer.effect === 'stored') said('warn', `It would be stored, and count when the inventory can be reached: ${answer.why ?? ''}`);
    become('ready');
    // Once: its numbers go on moving, and need not be read again each second.
    text(the('confirm-told'), [...the('confirm-effect').children].map((line) => line.textContent).join(' '));
  } catch (error) {
    if (mine !== asked) return;
    become('refused');
    refused(error);
  }
}

/** Does what was said of it: the same body, and no question about another one goes on meanwhile. */
async function perform() {
  if (deed === null || would === null) return;
  clearTimeout(soon);
  const [mine, doing, {body}] = [++asked, deed, would];
  become('doing');
  try {
    const [method, path] = doing.to;
    const answer = await call(method, path, body);
    void log.refresh();
    if (mine !== asked) return;
    become('done');
    if (answer.effect === 'stored') said('warn', `It is stored, and counts when the inventory can be reached: ${answer.why ?? ''}`);
    else said('good', answer.effect === 'unchanged' ? 'It was so already.' : doing.done);
  } catch (error) {
    void log.refresh();
    if (mine !== asked) return;
    become('refused');
    refused(error);
  }
}

/** Says it with the numbers of this moment, until it is done. */
function effect() {
  if (deed === null || would === null || view === null || (stage !== 'asking' && stage !== 'ready')) return;
  const lines = [...deed.effect(view, would.answer), ...would.besides].map((line, index) => ({line, index}));
  list(
    the('confirm-effect'),
    lines,
    ({index}) => String(index),
    () => h('li'),
    (item, {line}) => text(item, line),
  );
}

/** @param {typeof stage} next */
function become(next) {
  stage = next;
  the('confirm').dataset.stage = next;
  const [yes, no] = [the('confirm-yes', HTMLButtonElement), the('confirm-no', HTMLButtonElement)];
  attribute(the('confirm'), 'closedby', next === 'doing' ? 'none' : null);
  attribute(the('confirm'), 'aria-busy', next === 'asking' || next === 'doing' ? 'true' : null);
  yes.hidden = next === 'done';
  yes.disabled = next !== 'ready';
  text(no, next === 'done' ? 'Close' : 'Cancel');
  no.disabled = next === 'doing';
  for (const field of the('confirm-fields').querySelectorAll('input, select')) attribute(field, 'disabled', next === 'doing' || next === 'done');
  if (next === 'done') no.focus();
}

/**
 * @param {string} is
 * @param {string} what
 */
function said(is, what) {
  const box = the('confirm-said');
  box.hidden = what === '';
  box.dataset.is = is;
  text(box, what);
}

/** @param {unknown} error */
function refused(error) {
  const code = error instanceof Problem && error.code ? ` (${error.code})` : '';
  said('bad', `${error instanceof Error ? error.message : String(error)}${code}`);
}
