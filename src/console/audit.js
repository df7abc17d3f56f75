/** Runs an audit and shows what it found. */

import {call} from './api.js';
import {h, the} from './dom.js';
import * as report from './report.js';
import * as words from './words.js';

/** What is on its way has so long to arrive. */
const WAIT = '5s';

/** @type {string | null} */
let sale = null;

export function begin() {
  report.begin();
  the('audit').addEventListener('click', () => {
    if (sale !== null) void run(sale);
  });
}

/** @param {import('./app.js').View} view */
export function show(view) {
  sale = view.sale?.sale ?? null;
}

/** @param {string} sale */
async function run(sale) {
  const stop = new AbortController();
  // Whoever closes the dialog stops the audit; it reads only.
  report.open(`Audit of ${sale}`, [h('p', {class: 'wait'}, 'Reads inventory, queue and store, and waits up to 5 seconds for what is on its way …')], () => stop.abort());
  try {
    const query = new URLSearchParams({sale, wait: WAIT});
    /** @type {import('./types.js').Report} */
    const found = await call('POST', `/admin/v1/audit?${query}`, undefined, stop.signal);
    report.show(body(found));
  } catch (error) {
    if (!stop.signal.aborted) report.show([h('p', {class: 'said', 'data-is': 'bad'}, error instanceof Error ? error.message : String(error))]);
  }
}

/** @type {{[verdict: string]: [string, string]}} */
const VERDICTS = {
  clean: ['good', '✓ Clean: every invariant holds.'],
  in_motion: ['warn', '! In motion: what differs may be on its way. Ask again when it has arrived.'],
  broken: ['bad', '✗ Broken: an invariant does not hold.'],
};

/** @param {import('./types.js').Report} found */
function body(found) {
  const [is, said] = VERDICTS[found.verdict] ?? ['warn', found.verdict];
  const findings = [...found.findings, ...found.sales.flatMap((sale) => sale.findings)];
  const orders = found.sales.reduce((sum, sale) => sum + sale.orders, 0);
  const awaited = found.sales.reduce((sum, sale) => sum + sale.awaited, 0);
  const notes = found.sales.flatMap((sale) => sale.notes);
  const moving = Object.entries(found.motion).filter(([, number]) => number > 0);
  return [
    h('p', {class: 'said', 'data-is': is, id: 'audit-verdict'}, said),
    h('p', {}, `${words.counted(orders, 'order')} in the store ${orders === 1 ? 'was' : 'were'} looked at.`),
    awaited > 0 && h('p', {'data-is': 'warn', class: 'said'}, `${words.counted(awaited, 'granted order')} ${awaited === 1 ? 'has' : 'have'} no row yet.`),
    findings.length > 0 &&
      h(
        'ul',
        {class: 'findings'},
        ...findings.map((finding) =>
          h(
            'li',
            {'data-is': finding.confirmed ? 'bad' : 'warn'},
            h('b', {}, `${finding.invariant}: ${finding.what}`),
            finding.confirmed ? null : ' It may be explained by what is on its way.',
            finding.orders.length > 0 && h('code', {}, finding.orders.join(' ')),
          ),
        ),
      ),
    moving.length > 0 && h('p', {class: 'note'}, `On its way: ${words.joined(moving.map(([what, number]) => `${words.count(number)} ${words.spoken(what)}`))}.`),
    ...notes.map((note) => h('p', {class: 'note'}, note)),
  ];
}
