-- Messages that could not be stored as orders, as they were: for operators to look into, send again, or drop.
-- `kept_at` has an index so that they can be counted without reading their bodies.

CREATE TABLE dead_letters (
    id      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    lane    TEXT    NOT NULL,
    reason  TEXT    NOT NULL,
    body    BLOB    NOT NULL,
    kept_at INTEGER NOT NULL
) STRICT;

CREATE INDEX dead_letters_kept ON dead_letters (kept_at);
