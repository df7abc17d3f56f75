-- Orders lie in the order in which they were recorded, not in that of their ids, which are random: a row goes to the end of the table
-- and not into any page of it. What is still written all over are the small entries of two keys, by id and by buyer, so that a table that
-- has outgrown the memory takes a rush nearly like a small one. `seq` is nobody's business outside of this store. Columns that hold ASCII
-- alone say so, and compare by their bytes without a look at a collation.
--
-- The table is copied: between two sales, since nothing is recorded, paid or expired meanwhile, and not while an audit reads, which it
-- would wait for. Orders that were there before have no order among themselves in a list of the newest.
-- A gateway of the release before lists by sorting until it is updated.
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
