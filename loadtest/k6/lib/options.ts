// What all scripts ask of k6, and of the run.

import type { Options, Scenario, Threshold } from 'k6/options';

import * as metrics from './metrics.ts';
import { places, type SaleDocument } from './sale.ts';
import type { Settings } from './settings.ts';

/** How buyers come: at a constant rate, or more and more until the peak, and fewer again. */
export type Arrivals = 'constant' | 'ramping';

/** Seconds beyond all that a buyer may wait for. */
const MARGIN = 10;
/** What the end of a run asks, one after the other, each with its patience. */
const STEPS = 9;
/** Of a ramping crowd, the parts of its time in which it grows, stays and shrinks; and the rate at which it begins. */
const [GROWS, STAYS, SHRINKS] = [0.2, 0.6, 0.2];
const BEGINS = 0.1;
/** Of all requests, so many may get no answer at all: a connection may break anywhere. */
const FAILED = 0.001;

export function options(settings: Settings, sale: SaleDocument, arrivals: Arrivals, mayFail: boolean): Options {
  const { patience, stock } = settings;
  const truth = truthThresholds(sale);
  const limits: Record<string, Threshold[]> = mayFail ? {} : {
    'rushgate_claim_duration{answer:yes}': [`p(99)<${settings.p99Yes}`],
    'rushgate_claim_duration{answer:no}': [`p(99)<${settings.p99No}`],
    http_req_failed: [`rate<${FAILED}`],
    rushgate_unserved: ['count==0'],
    // Whoever did not come was not served either, and made the others' time shorter.
    dropped_iterations: [`count<=${Math.floor(crowd(settings, arrivals) * settings.away / 100)}`],
  };
  return {
    scenarios: { buyers: scenario(settings, arrivals) },
    thresholds: { ...shown(), ...limits, ...truth },
    summaryTrendStats: ['count', 'med', 'p(95)', 'p(99)', 'p(99.9)', 'max'],
    // Not the URLs: each order has its own.
    systemTags: ['status', 'method', 'name', 'scenario', 'expected_response', 'error_code'],
    setupTimeout: `${patience + MARGIN + Math.ceil(stock / 10)}s`,
    teardownTimeout: `${STEPS * (patience + MARGIN)}s`,
    userAgent: 'rushgate-k6',
  };
}

/** How many buyers are to come. */
function crowd({ rate, duration }: Settings, arrivals: Arrivals): number {
  return rate * duration * (arrivals === 'constant' ? 1 : GROWS * (BEGINS + 1) / 2 + STAYS + SHRINKS / 2);
}

function scenario(settings: Settings, arrivals: Arrivals): Scenario {
  const { rate, duration, vus, patience, hold } = settings;
  const part = (share: number) => `${Math.max(1, Math.round(duration * share * 1000))}ms`;
  const common = {
    // All from the start: while k6 makes one more, the buyer whom it is for does not come.
    preAllocatedVUs: vus,
    maxVUs: vus,
    // Whoever is here at the end gets an answer, and slow ones pay.
    gracefulStop: `${Math.ceil(patience + hold + MARGIN)}s`,
  };
  if (arrivals === 'constant') {
    return { executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: part(1), ...common };
  }
  const stages = [
    { target: rate, duration: part(GROWS) },
    { target: rate, duration: part(STAYS) },
    { target: 0, duration: part(SHRINKS) },
  ];
  return { executor: 'ramping-arrival-rate', startRate: Math.ceil(rate * BEGINS), timeUnit: '1s', stages, ...common };
}

function truthThresholds(sale: SaleDocument): Record<string, Threshold[]> {
  const thresholds: Record<string, Threshold[]> = {};
  for (const part of metrics.TRUTH) thresholds[`rushgate_verified{part:${part}}`] = ['count==1'];
  for (const at of places(sale)) thresholds[`rushgate_promised_beyond_capacity{at:${at}}`] = ['count<=0'];
  for (const part of metrics.PARTS) thresholds[`rushgate_yes_without_row_parts{part:${part}}`] = ['count==0'];
  for (const name of ['oversold', 'stranded', 'unexplained', 'yes_without_row', 'paid_without_row', 'pending', 'odd_answers']) {
    thresholds[`rushgate_${name}`] = ['count==0'];
  }
  return thresholds;
}

/** k6 tells handleSummary the parts of a metric only where a threshold names them; these cannot fail. */
function shown(): Record<string, Threshold[]> {
  const thresholds: Record<string, Threshold[]> = {};
  for (const outcome of metrics.OUTCOMES) thresholds[`rushgate_answers{outcome:${outcome}}`] = ['count>=0'];
  for (const outcome of metrics.ENDINGS) thresholds[`rushgate_endings{outcome:${outcome}}`] = ['count>=0'];
  for (const answer of metrics.ANSWERS) thresholds[`rushgate_claim_duration{answer:${answer}}`] = ['p(99)>=0'];
  for (let number = 0; number < metrics.SLICES; number += 1) {
    const slice = metrics.slice(number / metrics.SLICES);
    thresholds[`rushgate_timeline_duration{slice:${slice}}`] = ['p(95)>=0'];
    for (const answer of metrics.ANSWERS) thresholds[`rushgate_timeline{slice:${slice},answer:${answer}}`] = ['count>=0'];
  }
  return thresholds;
}
