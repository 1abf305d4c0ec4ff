SELECT 1 AS outcome, 'constant' AS response;
