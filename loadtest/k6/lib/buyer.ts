// One buyer's visit: ask until it is known, and then pay at once, late, or never.

import { sleep } from 'k6';
import exec from 'k6/execution';

import { Api, type Answer, type Ended, type Order } from './api.ts';
import * as metrics from './metrics.ts';
import { footprint, type Ask, type SaleDocument } from './sale.ts';
import type { Settings } from './settings.ts';

/** What setup() hands to everybody else. */
export interface Started {
  readonly run: string;
  readonly sale: string;
  readonly document: SaleDocument;
  readonly beganAt: string;
}

/** What of a hundred buyers with an order do with it; the others never pay. */
export interface Habits {
  readonly fast: number;
  readonly slow: number;
  readonly cancel: number;
  /** Of a hundred who have an order, how many ask for the same again, and for another one. */
  readonly repeat: number;
  /** Of a hundred who hear `all_held`, how many come back when units are released. */
  readonly comeBack: number;
}

const SECOND = 1000;
/** Seconds after which every node has heard of an order: ten refills of the default interval. */
const HEARD = 1;
/** The part of a hold after which slow buyers pay: between these two. */
const SLOW = 0.3;
const SLOWEST = 0.9;

/** How many buyers with these habits are there at once, with some to spare. `stalled`: seconds for which nobody may be answered. */
export function atOnce({ slow, cancel, comeBack }: Habits, stalled: number) {
  return (rate: number, stock: number, hold: number): number => {
    const percent = rate * hold / 100;
    const withOrders = Math.min(stock, 1.5 * percent * (slow * (SLOW + SLOWEST) / 2 + cancel * SLOW / 2));
    return Math.max(100, Math.ceil(rate * (1 + stalled) + withOrders + percent * comeBack));
  };
}

export class Buyer {
  readonly name: string;
  private readonly api: Api;
  private readonly settings: Settings;
  private readonly started: Started;
  /** The gateways that this buyer asks, a random one each time. */
  private readonly gateways: readonly string[];

  constructor(settings: Settings, started: Started, name: string, gateways = settings.gateways) {
    this.name = name;
    this.api = new Api(settings, name);
    this.settings = settings;
    this.started = started;
    this.gateways = gateways;
  }

  /** Asks until it is known, always under the same key. Undefined: this buyer has no order. */
  claim(ask: Ask, key: string): Order | undefined {
    return this.known(ask, key).order;
  }

  /** The same, with the last answer. `until`: when patience ends. */
  known(ask: Ask, key: string, until = Date.now() + this.settings.patience * SECOND): { order?: Order; last: Answer } {
    metrics.pending.add(1);
    let order: string | undefined;
    let isOpen = false;
    for (;;) {
      const answer = order === undefined ? this.ask(ask, key) : this.api.look(this.door(), order);
      // Where an order may have been made, and is not there, the claim itself gets the answer that counts.
      order = answer.kind === 'later' ? answer.order ?? order : undefined;
      isOpen ||= answer.kind === 'later' && !answer.isKnown;
      if (answer.kind === 'yes') {
        metrics.pending.add(-1);
        this.take(ask, answer.order);
        return { order: answer.order, last: answer };
      }
      const after = answer.kind === 'later' ? answer.after * SECOND : answer.kind === 'absent' ? 0 : undefined;
      if (after === undefined || Date.now() + after > until) {
        // A claim that may have been granted stays pending; one that was refused, or not served each time, does not.
        if (answer.kind === 'no' || !isOpen) metrics.pending.add(-1);
        if (answer.kind === 'later' && !isOpen) metrics.unserved.add(1);
        if (answer.kind === 'odd') tellOdd(`a claim of ${this.name} heard ${answer.said}`);
        return { last: answer };
      }
      sleep(after / SECOND);
    }
  }

  /** Whoever clicks twice has one order; whoever tries anew hears that one is enough. */
  repeat(ask: Ask, key: string, order: Order) {
    let again = this.ask(ask, key);
    if (again.kind === 'no') {
      // Another node may not have heard of the order yet; some refills later it has.
      sleep(HEARD);
      again = this.ask(ask, key);
    }
    if (again.kind === 'yes' && again.order.order !== order.order) {
      tellOdd(`${this.name} got ${order.order}, and ${again.order.order} for the same key`);
    } else if (again.kind === 'no') {
      tellOdd(`${this.name} got ${order.order}, and heard ${again.outcome} when asking again`);
    } else if (again.kind === 'odd') {
      tellOdd(`a repetition of ${this.name} heard ${again.said}`);
    }
    const another = this.known(ask, `${key}-2`).order;
    if (another && Date.now() < Date.parse(order.pay_by)) {
      tellOdd(`${this.name} has ${order.order} and ${another.order}, which is more than the limit`);
    }
  }

  pay(order: Order) {
    metrics.pending.add(1);
    const ended = this.until((gateway) => this.api.pay(gateway, order));
    if (ended === undefined) return;
    metrics.pending.add(-1);
    if (ended === 'unsent') {
      metrics.unserved.add(1);
      metrics.endings.add(1, { outcome: 'never' });
      return;
    }
    if (ended === 'done') metrics.paidWithoutRow.add(1);
    metrics.endings.add(1, { outcome: ended === 'done' ? 'paid' : 'too_late' });
  }

  /** Whether it came to pass the store tells; nothing is promised before. */
  cancel(order: Order): boolean {
    const ended = this.until((gateway) => this.api.cancel(gateway, order.order));
    metrics.endings.add(1, { outcome: ended === 'done' ? 'cancelled' : 'too_late' });
    return ended === 'done';
  }

  /** Does with an order what this buyer's habit is. */
  end(order: Order, habits: Habits, chance: number) {
    if (chance < habits.fast) {
      this.pay(order);
    } else if (chance < habits.fast + habits.slow) {
      sleep(this.settings.hold * (SLOW + Math.random() * (SLOWEST - SLOW)));
      this.pay(order);
    } else if (chance < habits.fast + habits.slow + habits.cancel) {
      sleep(this.settings.hold * SLOW * Math.random());
      this.cancel(order);
    } else {
      metrics.endings.add(1, { outcome: 'never' });
    }
  }

  /** Undefined: nobody knows what became of it. `unsent`: patience ended, and it reached nobody. */
  private until(attempt: (gateway: string) => Ended): 'done' | 'ended' | 'unsent' | undefined {
    const until = Date.now() + this.settings.patience * SECOND;
    let wasSent = false;
    for (;;) {
      const ended = attempt(this.door());
      if (typeof ended === 'string') return ended;
      if ('said' in ended) {
        tellOdd(`the end of an order of ${this.name} heard ${ended.said}`);
        return 'ended';
      }
      wasSent ||= !ended.isUnsent;
      if (Date.now() + ended.after * SECOND > until) return wasSent ? undefined : 'unsent';
      sleep(ended.after);
    }
  }

  private ask(ask: Ask, key: string): Answer {
    const { answer, took } = this.api.claim(this.door(), this.started.sale, ask, key);
    this.count(answer, took);
    return answer;
  }

  private count(answer: Answer, took: number) {
    metrics.answers.add(1, { outcome: answer.outcome });
    const kind: metrics.Kind = answer.kind === 'yes' || answer.kind === 'no' ? answer.kind : 'later';
    metrics.claimDuration.add(took, { answer: kind });
    const progress = exec.vu.idInTest === 0 ? undefined : exec.scenario.progress;
    if (progress === undefined) return;
    const slice = metrics.slice(progress);
    metrics.timeline.add(1, { slice, answer: kind });
    metrics.timelineDuration.add(took, { slice });
  }

  /** Notes what was promised, for the end of the run to compare with what is there. */
  private take(ask: Ask, order: Order) {
    metrics.accepted.add(1);
    metrics.yesWithoutRow.add(1);
    metrics.parts(order.order).forEach((value, part) => {
      metrics.yesWithoutRowParts.add(value, { part: String(part) });
    });
    const asked = footprint(this.started.document, ask.lines);
    asked.forEach((units, at) => {
      metrics.promised.add(units, { at });
    });
    // A gateway that has not read the sale yet names no stops.
    if (this.started.document.stops && order.lines.some((line) => !line.from)) return;
    const got = footprint(this.started.document, order.lines);
    if (asked.size !== got.size || [...asked].some(([at, units]) => got.get(at) !== units)) {
      tellOdd(`${this.name} asked for ${JSON.stringify(ask.lines)} and got ${JSON.stringify(order.lines)}`);
    }
  }

  private door(): string {
    return this.gateways[Math.floor(Math.random() * this.gateways.length)] ?? '';
  }
}

let told = 0;
/** Says the first ones that each of the crowd meets, and counts all. */
export function tellOdd(what: string) {
  metrics.odd.add(1);
  told += 1;
  if (told <= 3) console.error(what);
}
