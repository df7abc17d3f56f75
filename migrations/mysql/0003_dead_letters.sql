-- Messages that could not be stored as orders, as they were: for operators to look into, send again, or drop.
-- `kept_at` has an index so that they can be counted without reading their bodies.

CREATE TABLE dead_letters (
    id      BIGINT        NOT NULL AUTO_INCREMENT PRIMARY KEY,
    lane    VARCHAR(64)   NOT NULL,
    reason  VARCHAR(1000) NOT NULL,
    body    MEDIUMBLOB    NOT NULL,
    kept_at BIGINT        NOT NULL,
    KEY dead_letters_kept (kept_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
