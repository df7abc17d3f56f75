// The admin API: creating a sale, and reading the truth about it.

import { sleep } from 'k6';
import http from 'k6/http';

import type { Line, SaleDocument } from './sale.ts';
import type { Settings } from './settings.ts';

export interface Leg {
  readonly pool: string;
  readonly leg: number;
  readonly from: string | null;
  readonly to: string | null;
  readonly capacity: number;
  readonly free: number | null;
  readonly held: number | null;
  readonly sold: number | null;
  readonly balanced: boolean;
  readonly store: { readonly live: number; readonly held: number; readonly paid: number } | null;
}

export interface Balance {
  readonly legs: readonly Leg[];
  readonly orders: Readonly<Record<string, { readonly orders: number; readonly units: number }>>;
  readonly quarantined: number;
  readonly drift: { readonly units: number; readonly in_motion: boolean; readonly orders: readonly string[] };
  readonly nodes: readonly { readonly node: string; readonly weight: number }[];
}

export interface Finding {
  readonly invariant: string;
  readonly confirmed: boolean;
  readonly what: string;
  readonly count: number;
  readonly orders: readonly string[];
}

export interface Audit {
  readonly verdict: 'clean' | 'in_motion' | 'broken';
  readonly sales: readonly { readonly sale: string; readonly orders: number; readonly findings: readonly Finding[]; readonly notes: readonly string[] }[];
  readonly findings: readonly Finding[];
}

export interface Row {
  readonly order: string;
  readonly status: 'held' | 'paid' | 'expired' | 'cancelled' | 'refunded';
  readonly lines: readonly (Line & { readonly quantity: number })[];
}

interface Page {
  readonly orders: readonly Row[];
  readonly next: string | null;
}

/** Does this balance have every part, or was inventory or store not to be read? */
export function isWhole(balance: Balance): boolean {
  return balance.legs.every(({ free, held, sold, store }) => [free, held, sold, store].every((part) => part !== null));
}

/** Milliseconds between two tries. */
const PAUSE = 500;
const SECOND = 1000;
/** Orders in a page; the most that the API gives. */
const PAGE = 1000;
/** Whoever asks until something is so hears other things before. */
export const ANY_ANSWER = http.expectedStatuses({ min: 200, max: 599 });
const FIRST = '0'.repeat(32);

export class Admin {
  private readonly settings: Settings;
  /** When to give up, in milliseconds. */
  private readonly until: number;

  /** Tries everything for so many seconds from now. */
  constructor(settings: Settings, patience: number) {
    this.settings = settings;
    this.until = Date.now() + patience * SECOND;
  }

  get isOver(): boolean {
    return Date.now() >= this.until;
  }

  create(sale: string, document: SaleDocument) {
    this.call('PUT', `sales/${sale}`, document);
  }

  close(sale: string) {
    this.call('POST', `sales/${sale}/close`);
  }

  balance(sale: string): Balance {
    return this.call<Balance>('GET', `sales/${sale}/balance`);
  }

  /** The balance with all of its parts: one that lacks any would pass for zeros. */
  wholeBalance(sale: string): Balance {
    for (;;) {
      const balance = this.balance(sale);
      if (isWhole(balance)) return balance;
      if (Date.now() + PAUSE > this.until) throw new Error(`the balance of ${sale} lacks parts: ${JSON.stringify(balance.legs)}`);
      sleep(PAUSE / SECOND);
    }
  }

  /** Waits at most so many seconds, within one call, for what is in motion. */
  audit(sale: string, wait = 0): Audit {
    return this.call<Audit>('GET', `audit?sale=${sale}&wait=${wait}s`);
  }

  /** All orders of a sale as they are now (a replica may lag), page by page. */
  rows(sale: string, see: (row: Row) => void) {
    let after: string | null = FIRST;
    while (after !== null) {
      const page: Page = this.call<Page>('GET', `orders?sale=${sale}&limit=${PAGE}&fresh=true&after=${after}`);
      page.orders.forEach(see);
      after = page.next;
    }
  }

  /** Asks until there is an answer that says yes or no, or patience ends. */
  private call<T>(method: string, path: string, body?: unknown): T {
    const url = `${this.settings.admin}/admin/v1/${path}`;
    const headers: Record<string, string> = { 'Content-Type': 'application/json', 'X-Operator': 'k6' };
    if (this.settings.adminToken !== '') headers['Authorization'] = `Bearer ${this.settings.adminToken}`;
    for (;;) {
      const left = Math.max(1, (this.until - Date.now()) / SECOND);
      const response = http.request(method, url, body === undefined ? null : JSON.stringify(body), {
        headers, timeout: `${left}s`, tags: { name: 'admin' }, responseType: 'text', responseCallback: ANY_ANSWER,
      });
      // A sale that is stored, and that the inventory does not have yet (202), is waited for at the gateways.
      if (response.status >= 200 && response.status < 300) return JSON.parse(response.body ?? '') as T;
      const mayPass = response.status === 0 || response.status === 409 || response.status >= 500;
      if (!mayPass || Date.now() + PAUSE > this.until) {
        throw new Error(`${method} ${url}: ${response.status === 0 ? response.error : `${response.status} ${response.body ?? ''}`}`);
      }
      sleep(PAUSE / SECOND);
    }
  }
}
