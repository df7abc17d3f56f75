// What the figures of a run mean, in words. k6 decides by the thresholds; this says what each that was crossed is about.

import { fromParts, PARTS, TRUTH } from './metrics.ts';

/** A metric as handleSummary gets it. */
export interface Metric {
  readonly type: string;
  readonly values: Readonly<Record<string, number>>;
  readonly thresholds?: Readonly<Record<string, { readonly ok: boolean }>>;
}
export type Metrics = Readonly<Record<string, Metric>>;

export interface Verdict {
  readonly passed: boolean;
  /** What is not true. */
  readonly broken: readonly string[];
  /** What is true, and was not fast or reliable enough. */
  readonly missed: readonly string[];
}

/** `capacities`: by pool. */
export function judge(metrics: Metrics, capacities: ReadonlyMap<string, number>): Verdict {
  const broken: string[] = [];
  const missed: string[] = [];
  for (const [name, metric] of Object.entries(metrics)) {
    const crossed = Object.entries(metric.thresholds ?? {}).filter(([, threshold]) => !threshold.ok).map(([source]) => source);
    if (crossed.length === 0) continue;
    const said = truth(name, metric.values['count'] ?? 0, metrics, capacities);
    if (said !== undefined) {
      if (said !== '') broken.push(said);
    } else {
      crossed.forEach((source) => missed.push(`${name}: ${source} is not so${actual(metric, source)}`));
    }
  }
  if (TRUTH.every((part) => count(metrics, `rushgate_verified{part:${part}}`) === 0)) {
    return { passed: false, broken: [NOTHING, ...broken.filter((said) => !said.startsWith('NOT VERIFIED'))], missed: missed.sort() };
  }
  // k6 hands metrics over in any order.
  broken.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  missed.sort();
  return { passed: broken.length + missed.length === 0, broken, missed };
}

const NOTHING = 'NOT VERIFIED: nothing was read at the end, so nothing is proved';
const UNSOLD = 'NOT VERIFIED: at the end a gateway was away, or neither sold nor refused what is free, so units may be stranded';
/** What is told first is the worst. */
const RANKS = ['OVERSOLD', 'LOST', 'LOST PAYMENT', 'STRANDED', 'UNSERVED', 'PENDING', 'CONTRADICTED', 'UNEXPLAINED', 'UNASKED', 'UNASKED PAYMENT', 'NOT VERIFIED'];

function rank(said: string): number {
  return RANKS.indexOf(said.split(':', 1)[0] ?? '');
}

/** These compare what buyers heard with rows: they mean something only where all rows were read. */
const BY_ROWS = /^rushgate_(promised_beyond_capacity|yes_without_row|paid_without_row)/;

/** What it means that this metric is not what it must be; empty: another one says it; undefined: it is about speed. */
function truth(name: string, value: number, metrics: Metrics, capacities: ReadonlyMap<string, number>): string | undefined {
  const [, part] = /^rushgate_verified\{part:(.+)\}$/.exec(name) ?? [];
  if (part === 'gateways') return UNSOLD;
  if (part !== undefined) return `NOT VERIFIED: the ${part} could not be read to the end, so it proves nothing`;
  if (BY_ROWS.test(name) && count(metrics, 'rushgate_verified{part:rows}') === 0) return '';
  const [, at] = /^rushgate_promised_beyond_capacity\{at:(.+)\}$/.exec(name) ?? [];
  if (at !== undefined) {
    const capacity = capacities.get(at.split('/')[0] ?? '') ?? 0;
    const said = `${units(capacity + value)} of ${at} are promised, and there are ${capacity}`;
    return isKnown(metrics) ? `OVERSOLD: ${said}` : `NOT VERIFIED: ${said}; some may have been given up since, or added`;
  }
  if (name.startsWith('rushgate_yes_without_row_parts{')) return sameCount(name, metrics);
  switch (name) {
    case 'rushgate_oversold': return `OVERSOLD: the store has ${units(value)} beyond the capacity`;
    case 'rushgate_stranded': return `STRANDED: ${units(value)} that nobody has and nobody can buy`;
    case 'rushgate_unserved': return `UNSERVED: ${value} claims or payments heard nothing but to ask again, or reached nobody, until patience ended`;
    case 'rushgate_unexplained': return `UNEXPLAINED: inventory, store and audit differ by ${value} (units, or orders)`;
    case 'rushgate_yes_without_row': return rows(value, metrics);
    case 'rushgate_paid_without_row': return payments(value, metrics);
    case 'rushgate_pending': return `PENDING: of ${value} claims or payments nobody knows what became`;
    case 'rushgate_odd_answers': return `CONTRADICTED: ${value} answers that the interface does not know, or that contradict others`;
    default: return undefined;
  }
}

function rows(difference: number, metrics: Metrics): string {
  if (difference < 0) return `UNASKED: ${orders(-difference)} in the store that no buyer heard yes for`;
  const sums = PARTS.map((part) => count(metrics, `rushgate_yes_without_row_parts{part:${part}}`));
  const id = difference === 1 ? fromParts(sums) : undefined;
  const named = id === undefined ? '' : `: ${id}`;
  return mayArrive(metrics)
    ? `NOT VERIFIED: ${orders(difference)} that heard yes and have no row yet${named}`
    : `LOST: ${orders(difference)} that heard yes and have no row${named}`;
}

function payments(difference: number, metrics: Metrics): string {
  if (difference < 0) return `UNASKED PAYMENT: ${-difference} orders are paid in the store, and nobody heard that`;
  return mayArrive(metrics)
    ? `NOT VERIFIED: ${difference} confirmed payments are not in the store yet`
    : `LOST PAYMENT: ${difference} payments were confirmed, and their orders are not paid in the store`;
}

/**
 * What is on its way, stock that was added, and a payment that takes the units of an order again: each may explain that more is promised,
 * until it is known that there is none.
 */
function isKnown(metrics: Metrics): boolean {
  const isRead = ['audit', 'balance'].every((part) => count(metrics, `rushgate_verified{part:${part}}`) > 0);
  return isRead && count(metrics, 'rushgate_paid_without_row') >= 0;
}

/** May rows be on their way? No audit has said that nothing is. */
function mayArrive(metrics: Metrics): boolean {
  return count(metrics, 'rushgate_verified{part:audit}') === 0;
}

/** Told once, by the first part that differs, and only where the numbers do not tell it already. */
function sameCount(name: string, metrics: Metrics): string {
  const differs = (part: string) => count(metrics, `rushgate_yes_without_row_parts{part:${part}}`) !== 0;
  const isFirst = name === `rushgate_yes_without_row_parts{part:${PARTS.find(differs) ?? ''}}`;
  if (!isFirst || count(metrics, 'rushgate_yes_without_row') !== 0) return '';
  return 'LOST: there are as many rows as yeses, and they are not the same orders';
}

function actual(metric: Metric, source: string): string {
  const [, stat] = /^([a-z]+(?:\([\d.]+\))?)/.exec(source) ?? [];
  const value = metric.values[stat ?? ''];
  return value === undefined ? '' : `: ${Number(value.toPrecision(4))}`;
}

export function count(metrics: Metrics, name: string): number {
  return metrics[name]?.values['count'] ?? 0;
}

function units(count: number): string {
  return count === 1 ? '1 unit' : `${count} units`;
}

function orders(count: number): string {
  return count === 1 ? '1 order' : `${count} orders`;
}
