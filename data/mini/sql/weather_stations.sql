-- Daily readings from three hill stations.
PRAGMA foreign_keys = ON;

CREATE TABLE station (
    code      TEXT PRIMARY KEY CHECK (length(code) = 4),
    name      TEXT NOT NULL,
    metres    INTEGER NOT NULL
);

CREATE TABLE reading (
    code      TEXT NOT NULL REFERENCES station (code) ON UPDATE CASCADE,
    day       TEXT NOT NULL,
    low_c     REAL,
    high_c    REAL,
    rain_mm   REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (code, day),
    CHECK (low_c IS NULL OR high_c IS NULL OR low_c <= high_c)
);
CREATE INDEX reading_by_day ON reading (day);

INSERT INTO station VALUES
    ('KOLM', 'Kolm ridge', 1240), ('BREN', 'Brenner hut', 1710), ('SELV', 'Selva dam', 905);

INSERT INTO reading VALUES
    ('KOLM', '2024-03-01', -2.1, 4.0, 0.0), ('KOLM', '2024-03-02', -0.4, 6.3, 1.2),
    ('KOLM', '2024-03-03', 1.0, 7.9, 14.6), ('KOLM', '2024-03-04', 0.2, 3.1, 8.8),
    ('BREN', '2024-03-01', -7.5, -1.2, 0.0), ('BREN', '2024-03-02', -6.0, 0.4, 0.6),
    ('SELV', '2024-03-01', 0.9, 8.8, 0.0), ('SELV', '2024-03-03', NULL, 10.5, 21.3);

-- Three-day moving mean and rain accumulated so far.
SELECT code, day, high_c,
       ROUND(AVG(high_c) OVER last_three, 1) AS smooth_high,
       ROUND(SUM(rain_mm) OVER so_far, 1)    AS rain_total
FROM reading
WINDOW last_three AS (PARTITION BY code ORDER BY day ROWS BETWEEN 2 PRECEDING AND CURRENT ROW),
       so_far AS (PARTITION BY code ORDER BY day)
ORDER BY code, day;

-- Days on which a station sent nothing.
WITH RECURSIVE calendar (day) AS (
    VALUES ('2024-03-01')
    UNION ALL
    SELECT date(day, '+1 day') FROM calendar WHERE day < '2024-03-04'
)
SELECT s.name, calendar.day AS missing
FROM station s
CROSS JOIN calendar
LEFT JOIN reading r ON r.code = s.code AND r.day = calendar.day
WHERE r.code IS NULL
ORDER BY missing, s.name;
