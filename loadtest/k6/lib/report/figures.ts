// Figures of a run in the form that both reports show.

import { ANSWERS, ENDINGS, OUTCOMES, slice, SLICES, type Kind } from '../metrics.ts';
import type { Report } from '../summary.ts';
import { count, type Metrics } from '../verdict.ts';

export interface Share {
  readonly name: string;
  readonly count: number;
}

export interface Latency {
  readonly name: Kind;
  readonly count: number;
  /** Milliseconds, by the name of the percentile. */
  readonly values: readonly { readonly name: string; readonly value: number }[];
}

export interface Slice {
  /** Seconds since the crowd came. */
  readonly at: number;
  readonly answers: Readonly<Record<Kind, number>>;
  /** Milliseconds. */
  readonly p95: number;
}

/** What an outcome means to a buyer. */
export const MEANINGS: Readonly<Record<string, string>> = {
  held: 'yes: an order is held',
  replayed: 'yes: the same as before',
  pending: 'not known in time; asked again',
  sold_out: 'no: nothing is left',
  all_held: 'no: nothing is free, some are unpaid',
  limit_reached: 'no: this buyer has theirs',
  not_open: 'no: the sale has not opened',
  paused: 'no: the sale is paused',
  closed: 'no: the sale has closed',
  unknown_sale: 'no: there is no such sale',
  rate_limited: 'too many from one; asked again',
  busy: 'too many wait; asked again',
  recovering: 'the inventory is rebuilt; asked again',
  unavailable: 'a backend is away; asked again',
  no_answer: 'the connection gave nothing; asked again',
  odd: 'nothing that the interface knows',
  paid: 'yes: paid, and confirmed',
  too_late: 'no: the hold was over',
  cancelled: 'no: given back by the buyer',
  never: 'no: not paid, to expire by itself',
};

export function answered(metrics: Metrics): Share[] {
  return shares(metrics, 'rushgate_answers', OUTCOMES);
}

export function ended(metrics: Metrics): Share[] {
  return shares(metrics, 'rushgate_endings', ENDINGS);
}

function shares(metrics: Metrics, metric: string, names: readonly string[]): Share[] {
  return names.map((name) => ({ name, count: count(metrics, `${metric}{outcome:${name}}`) })).filter((share) => share.count > 0);
}

export function latencies(metrics: Metrics): Latency[] {
  return ANSWERS.map((name) => {
    const values = metrics[`rushgate_claim_duration{answer:${name}}`]?.values ?? {};
    const percentiles = [['p50', 'med'], ['p95', 'p(95)'], ['p99', 'p(99)'], ['p99.9', 'p(99.9)'], ['max', 'max']] as const;
    return { name, count: values['count'] ?? 0, values: percentiles.map(([told, stat]) => ({ name: told, value: values[stat] ?? 0 })) };
  }).filter((latency) => latency.count > 0);
}

export function timeline(report: Report): Slice[] {
  return Array.from({ length: SLICES }, (_, number) => {
    const name = slice(number / SLICES);
    const of = (answer: Kind) => count(report.metrics, `rushgate_timeline{slice:${name},answer:${answer}}`);
    return {
      at: number * report.settings.duration / SLICES,
      answers: { yes: of('yes'), no: of('no'), later: of('later') },
      p95: report.metrics[`rushgate_timeline_duration{slice:${name}}`]?.values['p(95)'] ?? 0,
    };
  });
}

/** Arrivals that k6 left out, since all of its buyers were busy. */
export function dropped(metrics: Metrics): number {
  return count(metrics, 'dropped_iterations');
}

export function claims(metrics: Metrics): number {
  return count(metrics, 'iterations');
}

export function thousands(number: number): string {
  return String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, ',');
}

export function milliseconds(value: number): string {
  return value >= 100 ? thousands(value) : value.toFixed(value >= 10 ? 1 : 2);
}
