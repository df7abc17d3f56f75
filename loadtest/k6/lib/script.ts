// What all scripts are made of. A script is a profile: how buyers come, what they ask for and what they do with it.

import { sleep } from 'k6';
import exec from 'k6/execution';
import type { Options } from 'k6/options';

import { Admin } from './admin.ts';
import { atOnce, Buyer, type Habits, type Started } from './buyer.ts';
import { options, type Arrivals } from './options.ts';
import type { Ask, SaleDocument } from './sale.ts';
import { settings, type Defaults, type Settings } from './settings.ts';
import { summary, type Data } from './summary.ts';
import { isOpen, verify } from './truth.ts';

export interface Profile {
  readonly name: string;
  readonly defaults: Omit<Defaults, 'vus' | 'repeat'>;
  readonly arrivals: Arrivals;
  readonly habits: Habits;
  /** The sale that the run makes, of so many units whose hold lasts so many seconds. */
  readonly sale: (stock: number, hold: number) => SaleDocument;
  readonly ask: (buyer: string, chance: () => number) => Ask;
  /** Sell everything before the crowd comes. */
  readonly soldOut?: boolean;
  /** Something is broken on purpose: answers may be slow, or none. */
  readonly mayFail?: boolean;
  /** Said when the crowd comes. */
  readonly hint?: string;
}

/** What k6 looks for in a script. */
export interface Script {
  readonly options: Options;
  readonly setup: () => Started;
  readonly buyer: (started: Started) => void;
  readonly teardown: (started: Started) => void;
  readonly handleSummary: (data: Data) => Record<string, string>;
}

/** Seconds for the admin API to be there: whoever has not started it waits no longer. */
const HERE = 10;
/** Seconds for which the buyers of a run that may fail wait and others come. */
const STALLED = 10;
/** Seconds after a release in which those who come back do so. */
const RELEASED = 1;

export function script(profile: Profile): Script {
  const vus = atOnce(profile.habits, profile.mayFail ? STALLED : 0);
  const given = settings({ ...profile.defaults, repeat: profile.habits.repeat, vus });
  const document = profile.sale(given.stock, given.hold);
  return {
    options: options(given, document, profile.arrivals, profile.mayFail ?? false),
    setup: () => begin(profile, given, document),
    buyer: (started) => visit(profile, given, started),
    teardown: (started) => verify(given, started, profile.mayFail ?? false),
    handleSummary: (data) => summary(profile.name, given, document, data),
  };
}

function begin(profile: Profile, given: Settings, document: SaleDocument): Started {
  const run = `${Date.now().toString(36)}${Math.floor(Math.random() * 36 ** 3).toString(36)}`;
  const started = { run, sale: `k6-${profile.name}-${run}`, document, beganAt: new Date().toISOString() };
  const until = Date.now() + given.patience * 1000;
  try {
    new Admin(given, HERE).create(started.sale, document);
  } catch (error) {
    throw new Error(`no sale could be made at RUSHGATE_ADMIN_URL=${given.admin}: ${String(error)}`);
  }
  for (const gateway of given.gateways) {
    while (!isOpen(gateway, started.sale)) {
      if (Date.now() > until) throw new Error(`${gateway} does not offer the sale ${started.sale}; is it a public listener?`);
      sleep(0.2);
    }
  }
  if (profile.soldOut) sellOut(profile, given, started);
  if (profile.hint !== undefined) console.warn(profile.hint);
  return started;
}

function sellOut(profile: Profile, given: Settings, started: Started) {
  for (let number = 0; number < given.stock; number += 1) {
    const buyer = new Buyer(given, started, `${started.run}-first-${number}`);
    const order = buyer.claim(profile.ask(buyer.name, Math.random), `${buyer.name}-key`);
    if (!order) throw new Error(`of ${given.stock} units only ${number} could be sold`);
    buyer.pay(order);
  }
}

/** One buyer, who has never been here before. */
function visit({ habits, ask }: Profile, given: Settings, started: Started) {
  const name = `${started.run}-${exec.scenario.iterationInTest}`;
  const buyer = new Buyer(given, started, name);
  const wish = ask(name, Math.random);
  const key = `${name}-key`;
  let { order, last } = buyer.known(wish, key);
  if (!order && last.kind === 'no' && last.outcome === 'all_held' && last.nextRelease && Math.random() * 100 < habits.comeBack) {
    const wait = Math.min(given.hold + given.patience, Math.max(0, (last.nextRelease - Date.now()) / 1000));
    sleep(wait + Math.random() * RELEASED);
    order = buyer.claim(wish, key);
  }
  if (!order) return;
  if (Math.random() * 100 < given.repeat) buyer.repeat(wish, key, order);
  buyer.end(order, habits, Math.random() * 100);
}
