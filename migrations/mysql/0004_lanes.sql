-- The largest number of lanes that any process came with. Messages may lie in that many, though fewer are published into now.
ALTER TABLE deployment ADD COLUMN lanes INT NOT NULL DEFAULT 0;
