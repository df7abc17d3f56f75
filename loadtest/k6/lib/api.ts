// The public API as a buyer sees it: one request, one answer, told apart by what the buyer may do next.

import { hmac } from 'k6/crypto';
import encoding from 'k6/encoding';
import http, { type RefinedResponse } from 'k6/http';

import type { Outcome } from './metrics.ts';
import type { Ask, Line } from './sale.ts';
import type { Settings } from './settings.ts';

// A no is an answer that was asked for: only what is none counts as a failed request.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }, 403, 404, 409, 410, 429, 503));

/** Longer than a gateway takes for any answer (http.request_timeout), so that a buyer hears it. */
const TIMEOUT = '10s';
/** Seconds of a bearer token's life. */
const TOKEN_LIFE = 3600;
/** Seconds to wait where an answer did not say how long. */
const PAUSE = 1;
/** k6's codes for a name that was not found, and for an address that no connection could be made to. */
const UNCONNECTED: readonly number[] = [1100, 1101, 1210, 1211, 1212];
const AGAIN: readonly string[] = ['rate_limited', 'busy', 'recovering', 'unavailable'];
const REFUSALS: readonly string[] = ['sold_out', 'all_held', 'limit_reached', 'not_open', 'paused', 'closed', 'unknown_sale'];

export interface Order {
  readonly order: string;
  readonly status: string;
  readonly amount: number;
  readonly currency: string;
  readonly pay_by: string;
  readonly lines: readonly Line[];
}

export type Answer =
  /** Granted; `replayed`: it was before. */
  | { readonly kind: 'yes'; readonly outcome: Outcome; readonly order: Order }
  /** Refused, for good; `next_release_at`, in milliseconds, is when it may be otherwise. */
  | { readonly kind: 'no'; readonly outcome: Outcome; readonly nextRelease: number | undefined }
  /** Ask again after so many seconds. `isKnown`: nothing was done by this request. `order`: it may have been made. */
  | { readonly kind: 'later'; readonly outcome: Outcome; readonly after: number; readonly isKnown: boolean; readonly order?: string }
  /** There is no such order. */
  | { readonly kind: 'absent'; readonly outcome: Outcome }
  /** No answer that the interface knows. */
  | { readonly kind: 'odd'; readonly outcome: Outcome; readonly said: string };

/** What came of a payment or a cancellation: done, ended before, or to be asked again. `isUnsent`: it reached nobody. */
export type Ended = 'done' | 'ended' | { readonly after: number; readonly isUnsent: boolean } | { readonly said: string };

type Response = RefinedResponse<'text'>;
interface Body extends Partial<Order> {
  readonly code?: string;
  readonly next_release_at?: string | null;
  /** How to pay at the provider. */
  readonly payment?: unknown;
  /** What came of a provider's notice. */
  readonly outcome?: string;
}

/** One buyer's way to the gateways. */
export class Api {
  private readonly settings: Settings;
  private readonly headers: Record<string, string>;

  constructor(settings: Settings, buyer: string) {
    this.settings = settings;
    const who = settings.jwtSecret === ''
      ? { 'X-Buyer-Id': buyer }
      : { Authorization: `Bearer ${token(buyer, settings.jwtSecret)}` };
    this.headers = { ...who, 'Content-Type': 'application/json' };
  }

  claim(gateway: string, sale: string, ask: Ask, key: string): { answer: Answer; took: number } {
    const headers = { ...this.headers, 'Idempotency-Key': key };
    const response = http.post(`${gateway}/v1/sales/${sale}/orders`, JSON.stringify(ask.body), params('claim', headers));
    return { answer: understood(response), took: response.timings.duration };
  }

  /** Asks for an order. */
  look(gateway: string, order: string): Answer {
    const response = http.get(`${gateway}/v1/orders/${order}`, params('order', this.headers));
    return response.status === 404 ? { kind: 'absent', outcome: 'pending' } : understood(response);
  }

  pay(gateway: string, order: Order): Ended {
    const method = this.settings.callbackSecret === '' ? 'sandbox' : 'signed-callback';
    const url = `${gateway}/v1/orders/${order.order}/payment`;
    const response = http.post(url, JSON.stringify({ method }), params('payment', this.headers));
    return parsed(response)?.payment === undefined ? ended(response, 'paid') : this.notice(gateway, order);
  }

  /** What the provider tells when the buyer has paid there: the same event, however often it is told. */
  private notice(gateway: string, { order, amount, currency }: Order): Ended {
    const body = JSON.stringify({ event: `k6-${order}`, status: 'paid', order, amount, currency });
    const headers = { 'Content-Type': 'application/json', 'Rushgate-Signature': signature(body, this.settings.callbackSecret) };
    const response = http.post(`${gateway}/v1/payments/callback`, body, params('callback', headers));
    switch (response.status === 200 ? parsed(response)?.outcome : undefined) {
      case 'paid': return 'done';
      case 'refund_due': return 'ended';
      case 'late': case 'unmatched': return { after: PAUSE, isUnsent: false };
      default: return ended(response, 'paid');
    }
  }

  cancel(gateway: string, order: string): Ended {
    return ended(http.del(`${gateway}/v1/orders/${order}`, null, params('cancel', this.headers)), 'cancelled');
  }
}

/** One name for all orders and sales: each would be a series of its own otherwise. */
function params(name: string, headers: Record<string, string>) {
  return { headers, timeout: TIMEOUT, tags: { name }, responseType: 'text' as const };
}

function understood(response: Response): Answer {
  const body = parsed(response);
  const code = body?.code ?? '';
  if (body?.order && body.status === 'pending') {
    return { kind: 'later', outcome: 'pending', after: retryAfter(response), isKnown: false, order: body.order };
  }
  if ((response.status === 200 || response.status === 201) && isOrder(body)) {
    return { kind: 'yes', outcome: response.status === 201 ? 'held' : 'replayed', order: body };
  }
  if (REFUSALS.includes(code)) {
    const next = Date.parse(body?.next_release_at ?? '');
    return { kind: 'no', outcome: code as Outcome, nextRelease: Number.isNaN(next) ? undefined : next };
  }
  if (AGAIN.includes(code)) {
    return { kind: 'later', outcome: code as Outcome, after: retryAfter(response), isKnown: true };
  }
  if (isLost(response)) return { kind: 'later', outcome: 'no_answer', after: PAUSE, isKnown: isUnsent(response) };
  return { kind: 'odd', outcome: 'odd', said: said(response) };
}

function ended(response: Response, wanted: string): Ended {
  const body = parsed(response);
  if (response.status === 200 && (body?.status === wanted)) return 'done';
  if (response.status === 409 && body?.code === 'not_held') return 'ended';
  if (response.status === 200 || response.status === 202 || AGAIN.includes(body?.code ?? '') || isLost(response)) {
    return { after: retryAfter(response), isUnsent: isUnsent(response) };
  }
  return { said: said(response) };
}

/** Nobody has answered, or only a balancer that has lost its gateway. */
function isLost(response: Response): boolean {
  return response.status === 0 || ([502, 503, 504].includes(response.status) && parsed(response)?.code === undefined);
}

/**
 * No connection was made to ask it on, so nobody can have done anything. Where a connection breaks under a request that has a key, k6 sends
 * it again by itself and tells only what came of that: then the first one was sent, and took its time.
 */
export function isUnsent({ status, error_code: code, timings }: Pick<Response, 'status' | 'error_code' | 'timings'>): boolean {
  return status === 0 && UNCONNECTED.includes(code) && timings.sending === 0 && timings.waiting === 0;
}

function isOrder(body: Body | undefined): body is Order {
  return /^[0-9a-f]{32}$/.test(body?.order ?? '') && Number.isInteger(body?.amount) && Array.isArray(body?.lines)
    && !Number.isNaN(Date.parse(body?.pay_by ?? ''));
}

function parsed(response: Response): Body | undefined {
  try {
    const value: unknown = JSON.parse(response.body ?? '');
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Seconds. */
function retryAfter(response: Response): number {
  const seconds = Number(response.headers['Retry-After']);
  return seconds >= 0 && seconds <= 3600 ? seconds : PAUSE;
}

function said(response: Response): string {
  return `${response.status} ${(response.body ?? '').slice(0, 300)}`;
}

function token(buyer: string, secret: string): string {
  const encoded = (value: unknown) => encoding.b64encode(JSON.stringify(value), 'rawurl');
  const expires = Math.floor(Date.now() / 1000) + TOKEN_LIFE;
  const unsigned = `${encoded({ alg: 'HS256', typ: 'JWT' })}.${encoded({ sub: buyer, exp: expires })}`;
  return `${unsigned}.${hmac('sha256', secret, unsigned, 'base64rawurl')}`;
}

function signature(body: string, secret: string): string {
  const seconds = Math.floor(Date.now() / 1000);
  return `t=${seconds},v1=${hmac('sha256', secret, `${seconds}.${body}`, 'hex')}`;
}
