// What is counted. k6 lets the code that runs after the buyers see no counter of theirs. So whoever knows a part of a balance adds
// or takes away that part, in the same counter, and a threshold asks for what must be left: nothing.

import { Counter, Trend } from 'k6/metrics';

/** Every answer to a claim, by `outcome`: one of OUTCOMES. */
export const answers = new Counter('rushgate_answers');
/** How long an answer to a claim took, by `answer`: yes, no, or later (ask again). */
export const claimDuration = new Trend('rushgate_claim_duration', true);
/** The same two over the run, by `slice` of it. */
export const timeline = new Counter('rushgate_timeline');
export const timelineDuration = new Trend('rushgate_timeline_duration', true);
/** What became of payments and cancellations, by `outcome`: one of ENDINGS. */
export const endings = new Counter('rushgate_endings');
/** Claims that were granted. */
export const accepted = new Counter('rushgate_accepted');

/** Claims and payments whose outcome is not known: one more when it is asked, one less when it is known. */
export const pending = new Counter('rushgate_pending');
/** Claims and payments that heard nothing but to ask again, or reached nobody, until patience ended, and of which nothing was done. */
export const unserved = new Counter('rushgate_unserved');
/** Granted claims, less the rows in the store. */
export const yesWithoutRow = new Counter('rushgate_yes_without_row');
/** The same for their ids, by `part` of an id: the sum over all claims less the sum over all rows. */
export const yesWithoutRowParts = new Counter('rushgate_yes_without_row_parts');
/** Payments that were confirmed, less the rows that are paid. */
export const paidWithoutRow = new Counter('rushgate_paid_without_row');
/** Units promised and not given up, less the capacity, by `at`: pool and leg. Must not be above nothing. */
export const promised = new Counter('rushgate_promised_beyond_capacity');
/** Units that the store has sold beyond the capacity. */
export const oversold = new Counter('rushgate_oversold');
/** Units that nobody has and nobody can buy. */
export const stranded = new Counter('rushgate_stranded');
/** Units, orders or invariants that balance and audit cannot account for. */
export const unexplained = new Counter('rushgate_unexplained');
/** Answers that the interface does not know, or that contradict earlier ones. */
export const odd = new Counter('rushgate_odd_answers');
/** 1 for each `part` of the truth that was read to its end. */
export const verified = new Counter('rushgate_verified');
export const TRUTH = ['gateways', 'audit', 'balance', 'rows'] as const;
export type Part = (typeof TRUTH)[number];

/** The answers to a claim that there are, the good ones first. */
export const OUTCOMES = [
  'held', 'replayed', 'pending', 'sold_out', 'all_held', 'limit_reached', 'not_open', 'paused', 'closed', 'unknown_sale',
  'rate_limited', 'busy', 'recovering', 'unavailable', 'no_answer', 'odd',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

export const ENDINGS = ['paid', 'too_late', 'cancelled', 'never'] as const;
export type Ending = (typeof ENDINGS)[number];

export const ANSWERS = ['yes', 'no', 'later'] as const;
export type Kind = (typeof ANSWERS)[number];

/** Into how many slices a run is cut for its charts. */
export const SLICES = 40;
/** The slice that a progress from 0 to 1 lies in; its name sorts as it is. */
export function slice(progress: number): string {
  const number = Math.min(SLICES - 1, Math.max(0, Math.floor(progress * SLICES)));
  return String(number).padStart(2, '0');
}

/** An order's id as numbers that a counter adds up exactly, for up to 500 million orders. */
export const PARTS = ['0', '1', '2', '3', '4', '5'] as const;
const DIGITS = 6;
export function parts(order: string): number[] {
  return PARTS.map((_, part) => parseInt(order.slice(part * DIGITS, (part + 1) * DIGITS), 16));
}

/** The one id whose parts these are, if they can be one's. */
export function fromParts(numbers: readonly number[]): string | undefined {
  const widths = PARTS.map((_, part) => Math.min(DIGITS, 32 - part * DIGITS));
  const fits = numbers.every((number, part) => number >= 0 && number < 16 ** (widths[part] ?? 0));
  return fits ? numbers.map((number, part) => number.toString(16).padStart(widths[part] ?? 0, '0')).join('') : undefined;
}
