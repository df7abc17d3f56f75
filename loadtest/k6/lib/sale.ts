// The sales that the scripts make, and what buyers ask of them.

export interface Pool {
  readonly id: string;
  readonly capacity: number;
}

/** As the admin API takes it. */
export interface SaleDocument {
  readonly name: string;
  readonly opens_at: string;
  readonly hold: string;
  readonly limit_per_buyer: number;
  readonly currency: string;
  readonly stops?: readonly string[];
  readonly pools: readonly (Pool & { readonly price?: number; readonly fares?: readonly number[] })[];
}

/** A line of a claim, and of an order. */
export interface Line {
  readonly pool: string;
  readonly from?: string | null;
  readonly to?: string | null;
  readonly quantity?: number;
  readonly passenger?: string | null;
}

/** What a buyer asks for, and the units that it takes: how many at which place. */
export interface Ask {
  readonly body: { readonly quantity: number } | { readonly lines: readonly Line[] };
  readonly lines: readonly Line[];
}

const POOL = 'standard';
const STOPS = ['JNK', 'TNA', 'XZE', 'NJH', 'SHH'] as const;

/** One pool, one leg. */
export function concert(stock: number, hold: number): SaleDocument {
  return { ...common(hold), name: 'k6: a concert', limit_per_buyer: 1, pools: [{ id: POOL, capacity: stock, price: 55350 }] };
}

/** Four legs, and two pools: ten seats of the second class for one of the first. */
export function trainRun(stock: number, hold: number): SaleDocument {
  const pools = [
    { id: 'second', capacity: stock, fares: [4000, 12000, 9000, 13000] },
    { id: 'first', capacity: Math.ceil(stock / 10), fares: [7000, 20000, 15000, 21000] },
  ];
  return { ...common(hold), name: 'k6: a train run', limit_per_buyer: 2, stops: STOPS, pools };
}

function common(hold: number) {
  // It opens when it is created: whoever asks earlier would measure a refusal.
  return { opens_at: '2020-01-01T00:00:00Z', hold: `${Math.round(hold * 1000)}ms`, currency: 'CNY' };
}

export function oneTicket(): Ask {
  return { body: { quantity: 1 }, lines: [{ pool: POOL, quantity: 1 }] };
}

/** Two stops, one or two passengers, one of ten in the first class; `chance` draws from 0 to below 1. */
export function journey(buyer: string, chance: () => number): Ask {
  const from = Math.floor(chance() * (STOPS.length - 1));
  const to = from + 1 + Math.floor(chance() * (STOPS.length - 1 - from));
  const pool = chance() < 0.1 ? 'first' : 'second';
  const passengers = chance() < 0.3 ? 2 : 1;
  const lines = Array.from({ length: passengers }, (_, number) => (
    { pool, from: STOPS[from] ?? null, to: STOPS[to] ?? null, passenger: `${buyer}-p${number}` }
  ));
  return { body: { lines }, lines };
}

/** One unit of a pool, from the first stop to the last. */
export function wholeWay(sale: SaleDocument, pool: string, buyer: string): Ask {
  const stops = sale.stops ?? [];
  if (stops.length === 0) return { body: { quantity: 1 }, lines: [{ pool, quantity: 1 }] };
  const lines = [{ pool, from: stops[0] ?? null, to: stops[stops.length - 1] ?? null, passenger: `${buyer}-p0` }];
  return { body: { lines }, lines };
}

/** The names of all places at which units are counted: pool and leg. */
export function places(sale: SaleDocument): string[] {
  const legs = Math.max(1, (sale.stops?.length ?? 0) - 1);
  return sale.pools.flatMap((pool) => Array.from({ length: legs }, (_, leg) => place(pool.id, leg)));
}

export function place(pool: string, leg: number): string {
  return `${pool}/${leg}`;
}

/** Units by place that these lines take. */
export function footprint(sale: SaleDocument, lines: readonly Line[]): Map<string, number> {
  const stops = sale.stops ?? [];
  const units = new Map<string, number>();
  for (const line of lines) {
    const from = line.from ? stops.indexOf(line.from) : 0;
    const to = line.to ? stops.indexOf(line.to) : Math.max(1, stops.length - 1);
    for (let leg = from; leg < to; leg += 1) {
      const at = place(line.pool, leg);
      units.set(at, (units.get(at) ?? 0) + (line.quantity ?? 1));
    }
  }
  return units;
}
