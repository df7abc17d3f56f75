-- Orders lie in the order in which they were recorded, not in that of their ids, which are random: an insert goes to the end of the
-- table and not into any page of it, so that a table that has outgrown the memory takes a rush like a small one. `seq` is nobody's
-- business outside of this table. Columns that hold ASCII alone say so, and compare by their bytes without a look at a collation.
--
-- The table is copied. Who writes into it meanwhile waits, and tries again.
ALTER TABLE orders
    DROP PRIMARY KEY,
    ADD COLUMN seq BIGINT NOT NULL AUTO_INCREMENT FIRST,
    ADD PRIMARY KEY (seq),                             -- list, the newest first
    ADD UNIQUE KEY orders_by_id (order_id),
    DROP KEY orders_newest,
    MODIFY sale_id    VARCHAR(64)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    MODIFY buyer_id   VARCHAR(128)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    MODIFY status     VARCHAR(9)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    MODIFY currency   CHAR(3)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    MODIFY line_items VARCHAR(4096) CHARACTER SET ascii COLLATE ascii_bin NOT NULL;
