CREATE TABLE recipe (
    recipe_key TEXT PRIMARY KEY,
    headline   TEXT NOT NULL,
    serves     INTEGER NOT NULL CHECK (serves > 0),
    minutes    INTEGER
);

CREATE TABLE pantry (
    item     TEXT PRIMARY KEY,
    unit     TEXT NOT NULL,
    in_stock REAL NOT NULL DEFAULT 0 CHECK (in_stock >= 0)
);

CREATE TABLE needs (
    recipe_key TEXT REFERENCES recipe ON DELETE CASCADE,
    item       TEXT REFERENCES pantry,
    amount     REAL NOT NULL,
    PRIMARY KEY (recipe_key, item)
);

INSERT INTO recipe VALUES
    ('lentil-soup', 'Lentil soup with cumin', 4, 45),
    ('pancakes', 'Thin pancakes', 3, 30),
    ('onion-tart', 'Onion tart', 6, 80);

INSERT INTO pantry VALUES
    ('lentils', 'g', 500), ('onion', 'pcs', 3), ('flour', 'g', 900),
    ('milk', 'ml', 250), ('egg', 'pcs', 5), ('butter', 'g', 120), ('cumin', 'g', 20);

INSERT INTO needs VALUES
    ('lentil-soup', 'lentils', 250), ('lentil-soup', 'onion', 1), ('lentil-soup', 'cumin', 3),
    ('pancakes', 'flour', 180), ('pancakes', 'milk', 400), ('pancakes', 'egg', 2),
    ('onion-tart', 'flour', 250), ('onion-tart', 'butter', 125), ('onion-tart', 'onion', 5);

-- One row per recipe and missing item.
CREATE VIEW shopping AS
SELECT n.recipe_key, n.item, n.amount - p.in_stock AS short_by, p.unit
FROM needs n
JOIN pantry p ON p.item = n.item
WHERE n.amount > p.in_stock;

SELECT headline FROM recipe
WHERE NOT EXISTS (SELECT 1 FROM shopping WHERE shopping.recipe_key = recipe.recipe_key);

SELECT item, SUM(short_by) || ' ' || unit AS buy FROM shopping GROUP BY item, unit;

-- Scale the soup for ten guests.
SELECT item, ROUND(amount * 10.0 / serves, 1) AS for_ten
FROM recipe JOIN needs USING (recipe_key)
WHERE recipe_key = 'lentil-soup';
