// The end of a run: what buyers were told against what is there. Nothing is taken on trust from one place alone.
//
// | told to buyers                | compared with                                                  | counter                   |
// |-------------------------------|----------------------------------------------------------------|---------------------------|
// | every yes                     | every row of the store, by number and by id                    | yes_without_row, its parts |
// | units of yeses, less ended    | the capacity of each leg                                       | promised_beyond_capacity  |
// | every confirmed payment       | rows that are paid                                             | paid_without_row          |
// | no answer at all              | nothing may be left                                            | pending                   |
// | what the balance calls free   | a buyer at each gateway, who must get one                      | stranded, verified        |
// | the balance's equation, audit | capacity = free + held + sold, no drift, every invariant holds | unexplained, oversold     |

import { sleep } from 'k6';
import http from 'k6/http';

import { Admin, ANY_ANSWER, type Audit, type Balance, type Leg } from './admin.ts';
import type { Answer } from './api.ts';
import { Buyer, type Started } from './buyer.ts';
import * as metrics from './metrics.ts';
import { footprint, places, wholeWay } from './sale.ts';
import type { Settings } from './settings.ts';

/** Seconds of waiting within one audit. */
const AUDIT_WAIT = 1;
/** Seconds after which a unit that is free and not to be had is stranded: many refills. */
const STRANDED_AFTER = 10;

/**
 * Compares, and counts what differs and which parts could be read. Each part has its own patience: what one cannot tell, another may.
 * `mayFail`: somebody may have killed gateways for good.
 */
export function verify(settings: Settings, started: Started, mayFail: boolean) {
  const { sale } = started;
  const admin = () => new Admin(settings, settings.patience);
  read('gateways', () => {
    const balance = admin().wholeBalance(sale);
    buyWhatIsFree(settings, started, balance, alive(settings, sale, mayFail));
  });
  attempt('the end of the sale', () => { admin().close(sale); });
  read('audit', () => { explain(settled(admin(), sale)); });
  let capacities = new Map(started.document.pools.map((pool) => [pool.id, pool.capacity]));
  read('balance', () => {
    const balance = admin().wholeBalance(sale);
    balance.legs.forEach(account);
    if (!balance.drift.in_motion) metrics.unexplained.add(balance.drift.units);
    // Whoever has added stock meanwhile has promised more.
    capacities = new Map(balance.legs.map((leg) => [leg.pool, leg.capacity]));
  });
  read('rows', () => { compareRows(admin(), started, capacities); });
}

function read(part: metrics.Part, action: () => void) {
  if (attempt(part, action)) metrics.verified.add(1, { part });
}

function attempt(what: string, action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    console.error(`${what}: ${String(error)}`);
    return false;
  }
}

/** What is in motion arrives first; an audit that still says so when patience ends is the answer. */
function settled(admin: Admin, sale: string): Audit {
  for (;;) {
    const audit = admin.audit(sale, AUDIT_WAIT);
    if (audit.verdict !== 'in_motion' || admin.isOver) return audit;
  }
}

function explain(audit: Audit) {
  const findings = audit.sales.flatMap((sale) => sale.findings).concat(audit.findings);
  findings.forEach((finding) => {
    console.error(`audit: ${finding.invariant}: ${finding.what}: ${finding.orders.join(' ')}`);
  });
  const differing = findings.reduce((sum, finding) => sum + Math.max(1, finding.count), 0);
  // What is on its way may explain all of it, so that audit is not read to its end.
  if (audit.verdict === 'in_motion') throw new Error('something was in motion still when PATIENCE ended');
  metrics.unexplained.add(audit.verdict === 'clean' ? differing : Math.max(1, differing));
}

/** Every gateway sells a unit of each pool that has one: the balance tells of the inventory, and a shard may be lost to it. */
function buyWhatIsFree(settings: Settings, started: Started, balance: Balance, gateways: readonly string[]) {
  const until = Date.now() + settings.patience * 1000;
  const unknown: string[] = [];
  for (const { id: pool } of started.document.pools) {
    let free = wholeWayFree(balance, pool);
    gateways.forEach((gateway, number) => {
      if (free > 0) {
        const kind = lastOne(settings, started, pool, gateway, `${started.run}-last-${pool}-${number}`, until);
        if (kind === 'no') {
          console.error(`${gateway} sells none of the ${free} free units of ${pool}`);
          metrics.stranded.add(free);
        } else if (kind !== 'yes') {
          unknown.push(`${gateway} neither sells nor refuses one of the ${free} free units of ${pool} (${kind})`);
        }
      }
      free -= 1;
    });
  }
  if (unknown.length > 0) throw new Error(unknown.join('; '));
}

/** The gateways that offer the sale. Only where somebody may have killed one may one be missing: it sells nothing, and strands nothing. */
function alive(settings: Settings, sale: string, mayFail: boolean): string[] {
  const until = Date.now() + (mayFail ? 0 : settings.patience * 1000);
  const there = settings.gateways.filter((gateway) => {
    while (!isOpen(gateway, sale)) {
      if (Date.now() >= until) return false;
      sleep(0.5);
    }
    return true;
  });
  const missing = settings.gateways.filter((gateway) => !there.includes(gateway)).join(', ');
  if (missing === '') return there;
  if (!mayFail || there.length === 0) throw new Error(`${missing}: does not offer the sale any more`);
  console.warn(`${missing}: is not there any more`);
  return there;
}

/** Does this gateway know the sale, and that it is open? */
export function isOpen(gateway: string, sale: string): boolean {
  const params = { timeout: '2s', tags: { name: 'sale' }, responseType: 'text' as const, responseCallback: ANY_ANSWER };
  const response = http.get(`${gateway}/v1/sales/${sale}`, params);
  return response.status === 200 && response.json('state') === 'open';
}

function wholeWayFree(balance: Balance, pool: string): number {
  return Math.min(...balance.legs.filter((leg) => leg.pool === pool).map((leg) => leg.free ?? 0));
}

/** What a last buyer of this pool hears at this gateway in the end; a no only when many refills have not changed it. */
function lastOne(settings: Settings, started: Started, pool: string, gateway: string, name: string, until: number): Answer['kind'] {
  const buyer = new Buyer(settings, started, name, [gateway]);
  const ask = wholeWay(started.document, pool, name);
  const stranded = Date.now() + STRANDED_AFTER * 1000;
  for (;;) {
    const { last } = buyer.known(ask, `${name}-key`, until);
    if (last.kind !== 'no' || Date.now() > stranded) return last.kind;
    sleep(0.5);
  }
}

/** Takes from what was told to buyers what is in the store: nothing must be left. */
function compareRows(admin: Admin, started: Started, capacities: ReadonlyMap<string, number>) {
  const sums = metrics.PARTS.map(() => 0);
  const ended = new Map<string, number>();
  let rows = 0;
  let paid = 0;
  admin.rows(started.sale, (row) => {
    rows += 1;
    metrics.parts(row.order).forEach((value, part) => { sums[part] = (sums[part] ?? 0) + value; });
    if (row.status === 'paid' || row.status === 'refunded') paid += 1;
    if (row.status === 'held' || row.status === 'paid') return;
    footprint(started.document, row.lines).forEach((units, at) => ended.set(at, (ended.get(at) ?? 0) + units));
  });
  metrics.yesWithoutRow.add(-rows);
  sums.forEach((sum, part) => { metrics.yesWithoutRowParts.add(-sum, { part: String(part) }); });
  metrics.paidWithoutRow.add(-paid);
  for (const at of places(started.document)) {
    metrics.promised.add(-(ended.get(at) ?? 0) - (capacities.get(at.split('/')[0] ?? '') ?? 0), { at });
  }
}

function account(leg: Leg) {
  const inInventory = (leg.free ?? 0) + (leg.held ?? 0) + (leg.sold ?? 0);
  metrics.stranded.add(Math.max(0, leg.capacity - inInventory));
  metrics.unexplained.add(Math.max(0, inInventory - leg.capacity));
  metrics.oversold.add(Math.max(0, (leg.store?.live ?? 0) - leg.capacity));
}
