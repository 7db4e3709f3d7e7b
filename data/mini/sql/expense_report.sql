-- Household expenses: a month by category table and the budget check.
CREATE TABLE spending (
    entry     INTEGER PRIMARY KEY,
    spent_on  TEXT NOT NULL CHECK (spent_on GLOB '????-??-??'),
    category  TEXT NOT NULL,
    amount    NUMERIC NOT NULL,
    note      TEXT
);

CREATE TABLE budget (
    category   TEXT PRIMARY KEY,
    per_month  NUMERIC NOT NULL
);

INSERT INTO budget VALUES ('food', 420), ('transport', 90), ('energy', 110), ('leisure', 75);
INSERT INTO spending (spent_on, category, amount, note) VALUES
    ('2024-01-04', 'food', 96.40, NULL), ('2024-01-12', 'energy', 131.00, 'winter bill'),
    ('2024-01-19', 'food', 212.75, NULL), ('2024-01-28', 'leisure', 38.00, 'two concert tickets'),
    ('2024-02-02', 'transport', 89.00, 'monthly pass'), ('2024-02-09', 'food', 301.10, NULL),
    ('2024-02-17', 'energy', 118.20, NULL), ('2024-02-25', 'food', 144.90, 'guests');

-- One column per month.
SELECT category,
       TOTAL(amount) FILTER (WHERE spent_on LIKE '2024-01-%') AS january,
       TOTAL(amount) FILTER (WHERE spent_on LIKE '2024-02-%') AS february
FROM spending
GROUP BY category
ORDER BY category;

WITH monthly AS (
    SELECT substr(spent_on, 1, 7) AS month, category, SUM(amount) AS spent
    FROM spending
    GROUP BY 1, 2
)
SELECT monthly.month,
       category,
       spent - per_month AS over_by,
       ROUND(100.0 * spent / per_month) || ' %' AS used
FROM monthly
JOIN budget USING (category)
WHERE spent > per_month
ORDER BY month, over_by DESC;

-- The largest entry of each category.
SELECT category, spent_on, amount
FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY category ORDER BY amount DESC) AS nth
    FROM spending
)
WHERE nth = 1;

DELETE FROM spending WHERE amount = 0;
