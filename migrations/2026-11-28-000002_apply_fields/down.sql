-- The function serves the version before as it is.
SELECT 1;
