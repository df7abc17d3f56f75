-- The first schema: partitions, sales and their guard, orders and what became of them.
-- Instants are milliseconds since 1970 UTC. The same tables as in ../mysql; the reasons are told there.

CREATE TABLE deployment (
    id           INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    order_secret BLOB    NOT NULL,
    partitions   INTEGER NOT NULL
) STRICT;

CREATE TABLE inventory_partitions (
    partition_id INTEGER NOT NULL PRIMARY KEY,
    epoch        INTEGER NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('fenced', 'open')),
    min_epoch    INTEGER NOT NULL,
    identity     TEXT    NOT NULL
) STRICT;

CREATE TABLE inventory_barriers (
    partition_id INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    lane         INTEGER NOT NULL,
    PRIMARY KEY (partition_id, epoch, lane)
) STRICT, WITHOUT ROWID;

CREATE TABLE sales (
    sale_id         TEXT    NOT NULL PRIMARY KEY,
    version         INTEGER NOT NULL,
    applied_version INTEGER NOT NULL,
    definition      TEXT    NOT NULL
) STRICT;

-- The guard: the last line against a unit too many. `live` counts held and paid units.
CREATE TABLE pool_legs (
    sale_id  TEXT    NOT NULL,
    pool_id  TEXT    NOT NULL,
    leg      INTEGER NOT NULL,
    capacity INTEGER NOT NULL,
    live     INTEGER NOT NULL,
    PRIMARY KEY (sale_id, pool_id, leg),
    CHECK (live >= 0 AND live <= capacity)
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    order_id     BLOB    NOT NULL PRIMARY KEY,
    sale_id      TEXT    NOT NULL,
    buyer_id     TEXT    NOT NULL,
    partition_id INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    fingerprint  INTEGER NOT NULL,
    status       TEXT    NOT NULL CHECK (status IN ('held', 'paid', 'expired', 'cancelled', 'refunded')),
    amount       INTEGER NOT NULL,
    currency     TEXT    NOT NULL,
    granted_at   INTEGER NOT NULL,
    pay_by       INTEGER NOT NULL,
    recorded_at  INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    line_items   TEXT    NOT NULL CHECK (length(line_items) <= 4096)
) STRICT, WITHOUT ROWID;

CREATE INDEX orders_due ON orders (status, pay_by);
CREATE INDEX orders_of_sale ON orders (sale_id, status, pay_by);
CREATE INDEX orders_of_buyer ON orders (buyer_id);
CREATE INDEX orders_newest ON orders (recorded_at);

CREATE TABLE order_events (
    order_id BLOB    NOT NULL,
    status   TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (order_id, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE payment_events (
    event_id    TEXT    NOT NULL PRIMARY KEY CHECK (length(event_id) <= 128),
    order_id    BLOB    NOT NULL,
    amount      INTEGER NOT NULL,
    currency    TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('applied', 'refund_due', 'unmatched', 'mismatch')),
    grace       INTEGER NOT NULL,
    received_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX payment_events_of_order ON payment_events (state, order_id);

CREATE TABLE stock_moves (
    order_id BLOB    NOT NULL,
    kind     TEXT    NOT NULL,
    sale_id  TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (order_id, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX stock_moves_oldest ON stock_moves (at);

CREATE TABLE stale_orders (
    order_id     BLOB    NOT NULL PRIMARY KEY,
    sale_id      TEXT    NOT NULL,
    partition_id INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    record       TEXT    NOT NULL,
    kept_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantined_orders (
    order_id     BLOB    NOT NULL PRIMARY KEY,
    sale_id      TEXT    NOT NULL,
    partition_id INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    record       TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    kept_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE change_log (
    id      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    who     TEXT    NOT NULL,
    what    TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    was     TEXT    NOT NULL,
    became  TEXT    NOT NULL
) STRICT;

CREATE INDEX change_log_of_subject ON change_log (subject, id);
