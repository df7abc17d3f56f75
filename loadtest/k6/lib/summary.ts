// The end of the run on paper: text for the terminal, JSON for programs, and a page for people.

import { Admin, type Audit, type Balance } from './admin.ts';
import type { Started } from './buyer.ts';
import { page } from './report/page.ts';
import { text } from './report/text.ts';
import type { SaleDocument } from './sale.ts';
import type { Settings } from './settings.ts';
import { judge, type Metrics, type Verdict } from './verdict.ts';

/** What k6 hands to handleSummary; the newer form that k6 has on request has no such `metrics`. */
export interface Data {
  readonly metrics?: Metrics;
  readonly state?: { readonly testRunDurationMs: number };
  readonly setup_data?: Started;
}

/** All that a report tells. */
export interface Report {
  readonly script: string;
  readonly settings: Settings;
  readonly document: SaleDocument;
  readonly started: Started | undefined;
  readonly seconds: number;
  readonly metrics: Metrics;
  readonly verdict: Verdict;
  readonly balance: Balance | undefined;
  readonly audit: Audit | undefined;
}

/** Seconds for a last look: everything was waited for before. */
const LOOK = 5;

export function summary(script: string, settings: Settings, document: SaleDocument, data: Data): Record<string, string> {
  const { metrics, state, setup_data: started } = data;
  if (metrics === undefined || Array.isArray(metrics) || state === undefined) {
    return { stdout: 'rushgate: no report, for k6 was asked for its other summary: leave --new-machine-readable-summary out\n' };
  }
  const balance = started && look(() => new Admin(settings, LOOK).balance(started.sale));
  const audit = started && look(() => new Admin(settings, LOOK).audit(started.sale));
  const capacities = new Map((balance?.legs ?? []).map((leg) => [leg.pool, leg.capacity]));
  document.pools.forEach((pool) => { if (!capacities.has(pool.id)) capacities.set(pool.id, pool.capacity); });
  const seconds = state.testRunDurationMs / 1000;
  const verdict = judge(metrics, capacities);
  const report: Report = { script, settings, document, started, seconds, metrics, verdict, balance, audit };
  const file = `${settings.out}/k6-${script}`;
  const told = text(report);
  return {
    stdout: `${told}report   ${file}.html · ${file}.json · ${file}.txt\n\n`,
    [`${file}.txt`]: told,
    [`${file}.json`]: `${JSON.stringify(withoutSecrets(report), null, 2)}\n`,
    [`${file}.html`]: page(report),
  };
}

/** What cannot be read any more is left out; the verdict stands without it. */
function look<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    console.warn(String(error));
    return undefined;
  }
}

function withoutSecrets(report: Report) {
  const { adminToken: _token, jwtSecret: _jwt, callbackSecret: _callback, ...settings } = report.settings;
  return { ...report, settings };
}
