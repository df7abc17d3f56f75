/** The last five minutes, as the charts draw them. */

/** How far back the charts reach, in milliseconds. */
export const REACH = 300_000;
/** Between two snapshots that have missed none. */
const STEP = 2500;

/**
 * Outcomes that mean the same to an operator, in the order in which they are told. What is in none of them is `other`.
 *
 * @type {{id: string, words: string, outcomes: string[]}[]}
 */
export const GROUPS = [
  {id: 'held', words: 'held: a yes', outcomes: ['held']},
  {id: 'sold-out', words: 'sold out', outcomes: ['sold_out']},
  {id: 'all-held', words: 'all held: come back', outcomes: ['all_held']},
  {id: 'limit', words: 'limit reached', outcomes: ['limit_reached']},
  {id: 'shut', words: 'not open, paused, closed', outcomes: ['not_open', 'paused', 'closed']},
  {id: 'pending', words: 'pending: ask again', outcomes: ['pending']},
  {id: 'trouble', words: 'busy or unavailable', outcomes: ['busy', 'recovering', 'unavailable']},
  {id: 'other', words: 'other', outcomes: []},
];

/**
 * @typedef {import('./types.js').Snapshot} Snapshot
 * @typedef {import('./types.js').Rates} Rates
 * @typedef {{perSecond: number | null, total: number}} Figure
 * @typedef {{at: number, all: Map<string, number | null>, sales: Map<string, Map<string, number | null>>, latency: Snapshot['latency'] | null}} Point
 */

export class History {
  /** @type {Point[]} */
  #points = [];

  /** @param {Snapshot} snapshot */
  add(snapshot) {
    const at = Date.parse(snapshot.at);
    const before = this.#points.at(-1);
    // Another node's clock, or the same one set back: a chart goes one way.
    if (before && at <= before.at) this.#points = this.#points.filter((point) => point.at < at);
    // Where nothing was heard nothing is drawn.
    if (before && at - before.at > STEP) this.#points.push({at: before.at + 1000, all: new Map(), sales: new Map(), latency: null});
    const sales = new Map(snapshot.sales.map((sale) => [sale.sale, perSecond(sale.claims)]));
    this.#points.push({at, all: perSecond(snapshot.claims), sales, latency: snapshot.latency});
    this.#points = this.#points.filter((point) => point.at >= at - REACH);
  }

  /**
   * Claims per second by group, of a sale or of all; seconds of the epoch first, as uPlot wants it.
   *
   * @param {string | null} sale
   * @returns {(number | null)[][]}
   */
  claims(sale) {
    const of = this.#points.map((point) => (sale === null ? point.all : (point.sales.get(sale) ?? new Map())));
    const heard = of.map((groups) => groups.size > 0);
    const series = GROUPS.map(({id}) => of.map((groups, index) => (heard[index] ? (groups.get(id) ?? null) : null)));
    return [this.#seconds(), ...series];
  }

  /**
   * Percentiles in seconds: of a yes, then of refusals.
   *
   * @returns {(number | null)[][]}
   */
  latency() {
    /** @type {('held' | 'refused')[]} */
    const kinds = ['held', 'refused'];
    const series = kinds.flatMap((kind) =>
      /** @type {('p50' | 'p95' | 'p99')[]} */ (['p50', 'p95', 'p99']).map((part) =>
        this.#points.map((point) => point.latency?.[kind]?.[part] || null),
      ),
    );
    return [this.#seconds(), ...series];
  }

  /** What the charts show, in seconds: all there is, but not less than a minute. @returns {[number, number]} */
  window() {
    const end = (this.#points.at(-1)?.at ?? 0) / 1000;
    const begin = (this.#points[0]?.at ?? 0) / 1000;
    return [Math.min(begin, end - 60), end];
  }

  #seconds() {
    return this.#points.map((point) => point.at / 1000);
  }
}

/**
 * What is told of each group now.
 *
 * @param {Rates} rates
 * @returns {Map<string, Figure>}
 */
export function grouped(rates) {
  /** @type {Map<string, Figure>} */
  const groups = new Map(GROUPS.map(({id}) => [id, {perSecond: null, total: 0}]));
  for (const [outcome, {total, per_second}] of Object.entries(rates)) {
    const id = GROUPS.find(({outcomes}) => outcomes.includes(outcome))?.id ?? 'other';
    const figure = groups.get(id) ?? {perSecond: null, total: 0};
    const perSecond = per_second === null ? figure.perSecond : (figure.perSecond ?? 0) + per_second;
    groups.set(id, {perSecond, total: figure.total + total});
  }
  return groups;
}

/** @param {Rates} rates */
function perSecond(rates) {
  return new Map([...grouped(rates)].map(([id, figure]) => [id, figure.perSecond ?? (figure.total === 0 ? 0 : null)]));
}
