/**
 * What the admin API tells, as far as the page reads it. Times are RFC 3339, durations seconds; what is not known is null.
 *
 * @typedef {{total: number, per_second: number | null}} Rate
 * @typedef {{[outcome: string]: Rate}} Rates
 *
 * @typedef {object} Pool Its figures are those of its scarcest leg.
 * @property {string} pool
 * @property {number} capacity
 * @property {number} legs
 * @property {number | null} free
 * @property {number | null} held
 * @property {number | null} sold
 *
 * @typedef {'not_open' | 'open' | 'paused' | 'closed'} Phase
 *
 * @typedef {object} Sale
 * @property {string} sale
 * @property {string} name
 * @property {Phase} phase
 * @property {number} version
 * @property {string | null} buffer
 * @property {string | null} opens_at
 * @property {string | null} closes_at
 * @property {Pool[]} pools
 * @property {Rates} claims
 * @property {number | null} drift_units
 * @property {number | null} quarantined
 *
 * @typedef {object} Shard What a node may still let through, and what of that is its fair part and its buffer.
 * @property {number | null} left
 * @property {number | null} fair
 * @property {number | null} buffer
 *
 * @typedef {object} Node
 * @property {string} node
 * @property {boolean} this
 * @property {number} weight
 * @property {'alive' | 'late' | 'gone' | 'left'} state
 * @property {number | null} silent_seconds
 * @property {string | null} version
 * @property {boolean | null} ready
 * @property {number | null} connections
 * @property {{[outcome: string]: number}} claims Per second.
 * @property {{[sale: string]: {[pool: string]: Shard}}} shards
 *
 * @typedef {{p50: number | null, p95: number | null, p99: number | null, p999: number | null}} Percentiles
 * @typedef {{backend: string, ok: boolean | null, seconds: number | null, why: string | null}} Health
 * @typedef {{lane: string, messages: number, consumers: number}} Lane
 *
 * @typedef {object} Snapshot
 * @property {string} at
 * @property {string} node
 * @property {string[]} roles
 * @property {string} version
 * @property {boolean} ready
 * @property {boolean} draining
 * @property {number | null} sales_count Null where nobody has heard of sales.
 * @property {Sale[]} sales
 * @property {Node[]} nodes
 * @property {Rates} claims
 * @property {{held: Percentiles | null, refused: Percentiles | null}} latency
 * @property {{inventory: Health, queue: Health, store: Health}} health
 * @property {number | null} outbox_entries
 * @property {Lane[]} lanes Empty: not known.
 * @property {number | null} dead_letters
 * @property {number | null} writer_lag_seconds
 * @property {string[]} admission_closed
 *
 * @typedef {object} Leg
 * @property {string} pool
 * @property {number} leg
 * @property {string | null} from
 * @property {string | null} to
 * @property {number} capacity
 * @property {number | null} free
 * @property {number | null} held
 * @property {number | null} sold
 * @property {boolean} balanced
 * @property {{capacity: number, live: number, held: number, paid: number} | null} store
 *
 * @typedef {object} Balance
 * @property {string} sale
 * @property {string} at
 * @property {Phase} phase
 * @property {number} version
 * @property {number} applied_version
 * @property {Leg[]} legs
 * @property {{[status: string]: {orders: number, units: number}}} orders
 * @property {number} outbox_entries
 * @property {number} stock_moves
 * @property {number} refunds_due
 * @property {number} late_payments
 * @property {number} stale
 * @property {number} stale_refused
 * @property {number} quarantined
 * @property {number | null} dead_letters
 * @property {string} [why_no_lanes]
 * @property {{units: number, in_motion: boolean, orders: string[], why_no_orders?: string}} drift
 *
 * @typedef {object} PoolPlan
 * @property {string} pool
 * @property {number} capacity
 * @property {number} free
 * @property {number} free_max
 * @property {number} fair_units
 * @property {number} buffer_units
 * @property {number} advised_units
 * @property {number} stranded_units
 * @property {number} needless_claims_max
 * @property {number} buffer_used_units
 * @property {number} buffer_wasted_units
 *
 * @typedef {object} Plan
 * @property {string} sale
 * @property {string} node
 * @property {number} nodes
 * @property {number} survive
 * @property {string} buffer
 * @property {string} set
 * @property {string} advised
 * @property {PoolPlan[]} pools
 *
 * @typedef {object} Change A line of the audit log.
 * @property {string} at
 * @property {string} who
 * @property {string} what
 * @property {string} subject
 * @property {unknown} before
 * @property {unknown} after
 *
 * @typedef {object} Changed What a change did, or would do.
 * @property {unknown} before
 * @property {unknown} after
 * @property {'applied' | 'stored' | 'unchanged'} effect
 * @property {boolean} dry_run
 * @property {string} [why]
 *
 * @typedef {{invariant: string, confirmed: boolean, what: string, count: number, orders: string[]}} Finding
 * @typedef {object} Report
 * @property {'clean' | 'in_motion' | 'broken'} verdict
 * @property {{sale: string, verdict: string, orders: number, arrived: number, awaited: number, findings: Finding[], notes: string[]}[]} sales
 * @property {Finding[]} findings
 * @property {{[what: string]: number}} motion
 */

export {};
