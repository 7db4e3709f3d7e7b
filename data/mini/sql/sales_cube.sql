-- Quarterly figures with subtotals, refreshed into a materialized view.
CREATE TABLE branch (
    branch_id smallint PRIMARY KEY,
    town      text NOT NULL,
    region    text NOT NULL
);

CREATE TABLE sale (
    sold_at   timestamp NOT NULL,
    branch_id smallint NOT NULL REFERENCES branch,
    dept      text NOT NULL,
    revenue   numeric(9, 2) NOT NULL,
    cost      numeric(9, 2) NOT NULL
) PARTITION BY RANGE (sold_at);

CREATE TABLE sale_2023 PARTITION OF sale FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE sale_2024 PARTITION OF sale FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');

INSERT INTO branch VALUES (1, 'Lund', 'south'), (2, 'Ystad', 'south'), (3, 'Umea', 'north');

INSERT INTO sale
SELECT timestamp '2023-01-02 10:00' + g * interval '13 hours',
       1 + g % 3,
       (ARRAY['tools', 'garden', 'paint'])[1 + g % 7 % 3],
       20 + g * 31 % 480,
       12 + g * 17 % 260
FROM generate_series(0, 1300) g;

CREATE MATERIALIZED VIEW quarterly AS
SELECT date_trunc('quarter', sold_at)::date AS quarter,
       region,
       dept,
       sum(revenue) AS revenue,
       sum(revenue - cost) AS margin,
       grouping(region, dept) AS level
FROM sale JOIN branch USING (branch_id)
GROUP BY GROUPING SETS ((1, 2, 3), (1, 2), (1))
WITH NO DATA;

CREATE INDEX quarterly_level ON quarterly (level, quarter);
REFRESH MATERIALIZED VIEW quarterly;

-- Growth against the same quarter one year earlier.
SELECT quarter, region, revenue,
       round(100 * (revenue / lag(revenue, 4) OVER by_region - 1), 1) AS growth_pct
FROM quarterly
WHERE level = 1
WINDOW by_region AS (PARTITION BY region ORDER BY quarter)
ORDER BY region, quarter;

-- Share of each department in its region.
SELECT region, dept, round(revenue / sum(revenue) OVER (PARTITION BY quarter, region), 3) AS share
FROM quarterly WHERE level = 0 AND quarter = DATE '2024-04-01';
