-- Club championship: results, standings and the longest unbeaten runs.
CREATE TABLE player (
    handle  TEXT PRIMARY KEY,
    rating  INTEGER NOT NULL CHECK (rating BETWEEN 100 AND 3500)
);

CREATE TABLE game (
    round   INTEGER NOT NULL,
    white   TEXT NOT NULL REFERENCES player,
    black   TEXT NOT NULL REFERENCES player,
    result  TEXT NOT NULL CHECK (result IN ('1-0', '0-1', '1/2')),
    PRIMARY KEY (round, white)
);

INSERT INTO player VALUES ('amelie', 1720), ('boris', 1655), ('chen', 1801), ('dora', 1590);
INSERT INTO game VALUES
    (1, 'amelie', 'dora', '1-0'), (1, 'chen', 'boris', '1/2'),
    (2, 'boris', 'amelie', '0-1'), (2, 'dora', 'chen', '0-1'),
    (3, 'amelie', 'chen', '1/2'), (3, 'boris', 'dora', '1-0');

CREATE VIEW score AS
SELECT round, white AS handle, black AS opponent,
       CASE result WHEN '1-0' THEN 1.0 WHEN '1/2' THEN 0.5 ELSE 0.0 END AS points
FROM game
UNION ALL
SELECT round, black, white,
       CASE result WHEN '0-1' THEN 1.0 WHEN '1/2' THEN 0.5 ELSE 0.0 END
FROM game;

SELECT RANK() OVER (ORDER BY SUM(s.points) DESC) AS place,
       s.handle,
       SUM(s.points) AS points,
       ROUND(AVG(o.rating)) AS mean_opposition
FROM score s
JOIN player o ON o.handle = s.opponent
GROUP BY s.handle;

-- Gaps and islands: every loss starts a new group.
WITH marked AS (
    SELECT handle, round, points,
           SUM(points = 0) OVER (PARTITION BY handle ORDER BY round) AS losses_so_far
    FROM score
),
streak AS (
    SELECT handle, losses_so_far, COUNT(*) AS games
    FROM marked
    WHERE points > 0
    GROUP BY handle, losses_so_far
)
SELECT handle, MAX(games) AS unbeaten
FROM streak
GROUP BY handle
ORDER BY unbeaten DESC, handle;
