// The verdict's words, run by k6 itself: k6 run loadtest/k6/lib/verdict.test.ts

import { check } from 'k6';

import { isWhole, type Balance, type Leg } from './admin.ts';
import { Api, isUnsent } from './api.ts';
import { fromParts, PARTS, parts, slice, SLICES, TRUTH } from './metrics.ts';
import { oneTicket } from './sale.ts';
import { duration, settings } from './settings.ts';
import { judge, type Metric, type Metrics } from './verdict.ts';

export const options = { thresholds: { checks: ['rate==1'] } };

const CAPACITIES = new Map([['standard', 300]]);
const ORDER = '00ff10ab5c0000000000000000123456';

function crossed(count: number): Metric {
  return { type: 'counter', values: { count }, thresholds: { 'count==0': { ok: false } } };
}

/** What a run says in which only these metrics are not what they must be. */
function said(wrong: Metrics): string {
  const verified = Object.fromEntries(TRUTH.map((part) => [
    `rushgate_verified{part:${part}}`, { type: 'counter', values: { count: 1 }, thresholds: { 'count==1': { ok: true } } },
  ]));
  const { passed, broken, missed } = judge({ ...verified, ...wrong }, CAPACITIES);
  return `${passed ? 'passed' : 'failed'}: ${[...broken, ...missed].join(' | ')}`;
}

function counted(name: string, count: number): Metrics {
  return { [`rushgate_${name}`]: crossed(count) };
}

function ids(...orders: string[]): Metrics {
  const sums = PARTS.map((_, part) => orders.reduce((sum, order) => sum + (parts(order)[part] ?? 0), 0));
  return Object.fromEntries(PARTS.map((part, number) => [`rushgate_yes_without_row_parts{part:${part}}`, crossed(sums[number] ?? 0)]));
}

/** A balance of one leg, of which these parts are otherwise. */
function balanceOf(parts: Partial<Leg>): Balance {
  const leg = { pool: 'standard', leg: 0, from: null, to: null, capacity: 300, free: 0, held: 0, sold: 300, balanced: true };
  const drift = { units: 0, in_motion: false, orders: [] };
  return { legs: [{ ...leg, store: { live: 300, held: 0, paid: 300 }, ...parts }], orders: {}, quarantined: 0, drift, nodes: [] };
}

export default function () {
  const same = (what: string, is: unknown, wanted: unknown) => {
    if (!check(is, { [what]: (value) => value === wanted })) console.error(`${what}: is ${is}, not ${wanted}`);
  };
  same('nothing wrong', said({}), 'passed: ');
  same('one unit too many', said(counted('promised_beyond_capacity{at:standard/0}', 1)),
    'failed: OVERSOLD: 301 units of standard/0 are promised, and there are 300');
  const unknown = '301 units of standard/0 are promised, and there are 300; some may have been given up since, or added';
  for (const part of ['audit', 'balance'] as const) {
    same(`one unit too many without the ${part}`,
      said({ ...counted('promised_beyond_capacity{at:standard/0}', 1), ...counted(`verified{part:${part}}`, 0) }),
      `failed: NOT VERIFIED: ${unknown} | NOT VERIFIED: the ${part} could not be read to the end, so it proves nothing`);
  }
  same('one unit too many, and a payment that nobody heard of',
    said({ ...counted('promised_beyond_capacity{at:standard/0}', 1), ...counted('paid_without_row', -1) }),
    `failed: UNASKED PAYMENT: 1 orders are paid in the store, and nobody heard that | NOT VERIFIED: ${unknown}`);
  same('one too many in the store whatever is on its way', said({ ...counted('oversold', 1), ...counted('verified{part:audit}', 0) }),
    'failed: OVERSOLD: the store has 1 unit beyond the capacity'
    + ' | NOT VERIFIED: the audit could not be read to the end, so it proves nothing');
  same('one too many in the store', said(counted('oversold', 1)), 'failed: OVERSOLD: the store has 1 unit beyond the capacity');
  same('one unit stranded', said(counted('stranded', 1)), 'failed: STRANDED: 1 unit that nobody has and nobody can buy');
  same('one unit unexplained', said(counted('unexplained', 1)),
    'failed: UNEXPLAINED: inventory, store and audit differ by 1 (units, or orders)');
  same('one claim unserved', said(counted('unserved', 1)),
    'failed: UNSERVED: 1 claims or payments heard nothing but to ask again, or reached nobody, until patience ended');
  same('one claim pending', said(counted('pending', 1)), 'failed: PENDING: of 1 claims or payments nobody knows what became');
  same('an odd answer', said(counted('odd_answers', 1)),
    'failed: CONTRADICTED: 1 answers that the interface does not know, or that contradict others');
  same('a yes without a row, by its id', said({ ...counted('yes_without_row', 1), ...ids(ORDER) }),
    `failed: LOST: 1 order that heard yes and have no row: ${ORDER}`);
  same('two yeses without rows', said({ ...counted('yes_without_row', 2), ...ids(ORDER, ORDER) }),
    'failed: LOST: 2 orders that heard yes and have no row');
  same('other rows than yeses', said(ids(ORDER)), 'failed: LOST: there are as many rows as yeses, and they are not the same orders');
  same('a row without a yes', said(counted('yes_without_row', -1)), 'failed: UNASKED: 1 order in the store that no buyer heard yes for');
  same('a lost payment', said(counted('paid_without_row', 1)),
    'failed: LOST PAYMENT: 1 payments were confirmed, and their orders are not paid in the store');
  same('the worst first', said({ ...counted('unexplained', 2), ...counted('oversold', 1), ...counted('pending', 1) }),
    'failed: OVERSOLD: the store has 1 unit beyond the capacity | PENDING: of 1 claims or payments nobody knows what became'
    + ' | UNEXPLAINED: inventory, store and audit differ by 2 (units, or orders)');
  same('no end', judge({}, CAPACITIES).broken.join(), 'NOT VERIFIED: nothing was read at the end, so nothing is proved');
  same('no audit', said(counted('verified{part:audit}', 0)),
    'failed: NOT VERIFIED: the audit could not be read to the end, so it proves nothing');
  same('rows that may be on their way', said({ ...counted('verified{part:audit}', 0), ...counted('yes_without_row', 1), ...ids(ORDER),
    ...counted('paid_without_row', 1) }),
    'failed: NOT VERIFIED: 1 confirmed payments are not in the store yet'
    + ` | NOT VERIFIED: 1 order that heard yes and have no row yet: ${ORDER}`
    + ' | NOT VERIFIED: the audit could not be read to the end, so it proves nothing');
  same('a gateway away', said(counted('verified{part:gateways}', 0)),
    'failed: NOT VERIFIED: at the end a gateway was away, or neither sold nor refused what is free, so units may be stranded');
  // Without rows, all yeses are without their row.
  same('no rows', said({ ...counted('verified{part:rows}', 0), ...counted('yes_without_row', 5), ...ids(ORDER),
    ...counted('paid_without_row', 3), ...counted('promised_beyond_capacity{at:standard/0}', 5) }),
    'failed: NOT VERIFIED: the rows could not be read to the end, so it proves nothing');
  same('too slow', said({ 'rushgate_claim_duration{answer:yes}': {
    type: 'trend', values: { 'p(99)': 1234.5678 }, thresholds: { 'p(99)<1000': { ok: false } },
  } }), 'failed: rushgate_claim_duration{answer:yes}: p(99)<1000 is not so: 1235');

  const lost = (error_code: number, sending: number, status = 0) => {
    const timings = { blocked: 0, connecting: 0, tls_handshaking: 0, sending, waiting: sending, receiving: 0, duration: sending };
    return isUnsent({ status, error_code, timings });
  };
  same('a dial that is refused', lost(1212, 0), true);
  same('a name that is not there', lost(1101, 0), true);
  same('sent, and sent again by k6 to nobody', lost(1212, 0.01), false);
  same('no answer in time', lost(1050, 0), false);
  same('a connection that broke', lost(1220, 0), false);
  same('an answer', lost(1503, 0, 503), false);
  dials(same);

  same('a balance with all its parts', isWhole(balanceOf({})), true);
  same('a balance without the inventory', isWhole(balanceOf({ free: null, held: null, sold: null })), false);
  same('a balance without the store', isWhole(balanceOf({ store: null })), false);
  same('an id is its parts', fromParts(parts(ORDER)), ORDER);
  same('two ids are none', fromParts(parts('f'.repeat(32)).map((part) => 2 * part)), undefined);
  same('less than nothing is none', fromParts(parts(ORDER).map((part) => -part)), undefined);
  same('the first slice', slice(0), '00');
  same('the last slice', slice(1), String(SLICES - 1));
  same('minutes', duration('1.5m'), 90);
  same('no unit', duration('30'), undefined);
  same('no time', duration('0s'), undefined);
}

/** What k6 makes of doors that are not there. BREAKS: one that answers once, hears the next request to its end, and is gone. */
function dials(same: (what: string, is: unknown, wanted: unknown) => void) {
  const given = settings({ stock: 1, rate: 1, duration: 1, hold: 1, patience: 1, repeat: 0, vus: () => 1 });
  const api = new Api(given, 'ann');
  const known = (gateway: string) => {
    const { answer } = api.claim(gateway, 's', oneTicket(), 'key');
    return answer.kind === 'later' ? answer.isKnown : answer.kind;
  };
  same('a claim at the port of nothing', known('http://127.0.0.1:1'), true);
  const breaks = __ENV['BREAKS'];
  if (breaks === undefined) return;
  same('a claim that is answered', known(breaks), 'no');
  same('a claim that was heard by who is gone', known(breaks), false);
  same('a claim at who is gone', known(breaks), true);
}
