-- The first schema: partitions, sales and their guard, orders and what became of them.
-- Instants are milliseconds since 1970 UTC. Ids compare by their bytes.

CREATE TABLE deployment (
    id           TINYINT    NOT NULL PRIMARY KEY,
    order_secret BINARY(32) NOT NULL,
    partitions   INT        NOT NULL,
    CONSTRAINT deployment_is_one CHECK (id = 1)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- `identity` is the inventory's that the epoch was opened on.
CREATE TABLE inventory_partitions (
    partition_id INT          NOT NULL PRIMARY KEY,
    epoch        BIGINT       NOT NULL,
    state        VARCHAR(6)   NOT NULL,
    min_epoch    BIGINT       NOT NULL,
    identity     VARCHAR(255) NOT NULL,
    CONSTRAINT inventory_partitions_state CHECK (state IN ('fenced', 'open'))
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE inventory_barriers (
    partition_id INT    NOT NULL,
    epoch        BIGINT NOT NULL,
    lane         INT    NOT NULL,
    PRIMARY KEY (partition_id, epoch, lane)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- `definition` is the sale's JSON document; 64 pools of 64 fares do not fit into a TEXT.
CREATE TABLE sales (
    sale_id         VARCHAR(64) NOT NULL PRIMARY KEY,
    version         BIGINT      NOT NULL,
    applied_version BIGINT      NOT NULL,
    definition      MEDIUMTEXT  NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The guard: the last line against a unit too many. `live` counts held and paid units.
CREATE TABLE pool_legs (
    sale_id  VARCHAR(64) NOT NULL,
    pool_id  VARCHAR(32) NOT NULL,
    leg      SMALLINT    NOT NULL,
    capacity INT         NOT NULL,
    live     INT         NOT NULL,
    PRIMARY KEY (sale_id, pool_id, leg),
    CONSTRAINT pool_legs_hold CHECK (live >= 0 AND live <= capacity)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- `line_items` is the text of the order's lines, as in its record: `pool/from/to/quantity/passenger/seat`, commas between. One column and not
-- a table of its own, so that one INSERT of many rows stores a batch, and an order is always read whole from one row. Nothing is searched by line.
-- `fingerprint` is 64 bits, in two's complement.
CREATE TABLE orders (
    order_id     BINARY(16)    NOT NULL PRIMARY KEY,
    sale_id      VARCHAR(64)   NOT NULL,
    buyer_id     VARCHAR(128)  NOT NULL,
    partition_id INT           NOT NULL,
    epoch        BIGINT        NOT NULL,
    fingerprint  BIGINT        NOT NULL,
    status       VARCHAR(9)    NOT NULL,
    amount       BIGINT        NOT NULL,
    currency     CHAR(3)       NOT NULL,
    granted_at   BIGINT        NOT NULL,
    pay_by       BIGINT        NOT NULL,
    recorded_at  BIGINT        NOT NULL,
    changed_at   BIGINT        NOT NULL,
    line_items   VARCHAR(4096) NOT NULL,
    CONSTRAINT orders_status CHECK (status IN ('held', 'paid', 'expired', 'cancelled', 'refunded')),
    KEY orders_due (status, pay_by),                   -- expiry
    KEY orders_of_sale (sale_id, status, pay_by),      -- next release, tally, snapshot
    KEY orders_of_buyer (buyer_id),                    -- list by buyer
    KEY orders_newest (recorded_at)                    -- list, the newest first
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- What became of an order after it was recorded. The recording itself is `orders.recorded_at`.
CREATE TABLE order_events (
    order_id BINARY(16) NOT NULL,
    status   VARCHAR(9) NOT NULL,
    at       BIGINT     NOT NULL,
    PRIMARY KEY (order_id, status)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- `grace` is how long after the order's `pay_by` the payment counts, as it was said when it came: one that waits for its order is judged later.
CREATE TABLE payment_events (
    event_id    VARCHAR(128) NOT NULL PRIMARY KEY,
    order_id    BINARY(16)   NOT NULL,
    amount      BIGINT       NOT NULL,
    currency    CHAR(3)      NOT NULL,
    state       VARCHAR(10)  NOT NULL,
    grace       BIGINT       NOT NULL,
    received_at BIGINT       NOT NULL,
    CONSTRAINT payment_events_state CHECK (state IN ('applied', 'refund_due', 'unmatched', 'mismatch')),
    -- Payments that wait (one small range, looked at by every batch), refunds due, and all payments of an order.
    KEY payment_events_of_order (state, order_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Changes of status that the inventory has not followed yet; written with the change, deleted when it has. Usually almost empty.
CREATE TABLE stock_moves (
    order_id BINARY(16)  NOT NULL,
    kind     VARCHAR(9)  NOT NULL,
    sale_id  VARCHAR(64) NOT NULL,
    at       BIGINT      NOT NULL,
    PRIMARY KEY (order_id, kind),
    KEY stock_moves_oldest (at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Orders that came too late for their epoch. `record` is the order as text.
CREATE TABLE stale_orders (
    order_id     BINARY(16)  NOT NULL PRIMARY KEY,
    sale_id      VARCHAR(64) NOT NULL,
    partition_id INT         NOT NULL,
    epoch        BIGINT      NOT NULL,
    record       MEDIUMTEXT  NOT NULL,
    kept_at      BIGINT      NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Orders that could not be recorded, and why.
CREATE TABLE quarantined_orders (
    order_id     BINARY(16)    NOT NULL PRIMARY KEY,
    sale_id      VARCHAR(64)   NOT NULL,
    partition_id INT           NOT NULL,
    epoch        BIGINT        NOT NULL,
    record       MEDIUMTEXT    NOT NULL,
    reason       VARCHAR(1000) NOT NULL,
    kept_at      BIGINT        NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Who changed what; `was` and `became` are JSON, or empty.
CREATE TABLE change_log (
    id      BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at      BIGINT       NOT NULL,
    who     VARCHAR(255) NOT NULL,
    what    VARCHAR(64)  NOT NULL,
    subject VARCHAR(128) NOT NULL,
    was     MEDIUMTEXT   NOT NULL,
    became  MEDIUMTEXT   NOT NULL,
    KEY change_log_of_subject (subject, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
