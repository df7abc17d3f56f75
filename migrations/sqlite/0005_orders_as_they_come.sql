-- Nothing to do here: what ../mysql changes is how its pages are filled.
SELECT 1;
