-- Late payments that wait for a verdict, and what became of stale orders.
-- A check cannot be changed here, so the table is made anew; the reasons are told in ../mysql.

CREATE TABLE payment_events_with_late (
    event_id    TEXT    NOT NULL PRIMARY KEY CHECK (length(event_id) <= 128),
    order_id    BLOB    NOT NULL,
    amount      INTEGER NOT NULL,
    currency    TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('applied', 'refund_due', 'unmatched', 'mismatch', 'late')),
    grace       INTEGER NOT NULL,
    received_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO payment_events_with_late (event_id, order_id, amount, currency, state, grace, received_at)
SELECT event_id, order_id, amount, currency, state, grace, received_at FROM payment_events;

DROP TABLE payment_events;
ALTER TABLE payment_events_with_late RENAME TO payment_events;
CREATE INDEX payment_events_of_order ON payment_events (state, order_id);

ALTER TABLE stale_orders ADD COLUMN state  TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'readmitted', 'refused'));
ALTER TABLE stale_orders ADD COLUMN reason TEXT NOT NULL DEFAULT '';
CREATE INDEX stale_orders_of_state ON stale_orders (state, kept_at);
