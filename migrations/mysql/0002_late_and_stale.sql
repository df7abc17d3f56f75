-- Late payments that wait for a verdict, and what became of stale orders.

ALTER TABLE payment_events
    DROP CONSTRAINT payment_events_state,
    ADD CONSTRAINT payment_events_states CHECK (state IN ('applied', 'refund_due', 'unmatched', 'mismatch', 'late'));

-- `reason` is the code of the refusal, or empty.
ALTER TABLE stale_orders
    ADD COLUMN state  VARCHAR(10) NOT NULL DEFAULT 'waiting',
    ADD COLUMN reason VARCHAR(32) NOT NULL DEFAULT '',
    ADD CONSTRAINT stale_orders_state CHECK (state IN ('waiting', 'readmitted', 'refused')),
    ADD KEY stale_orders_of_state (state, kept_at);    -- those that wait, the oldest first
