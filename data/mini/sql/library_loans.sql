-- Lending desk of a town library (SQLite).
CREATE TABLE reader (
    card_no    INTEGER PRIMARY KEY,
    full_name  TEXT NOT NULL,
    joined_on  TEXT NOT NULL DEFAULT (date('now'))
);

CREATE TABLE copy (
    barcode  TEXT PRIMARY KEY,
    title    TEXT NOT NULL,
    author   TEXT NOT NULL,
    shelf    TEXT
);

CREATE TABLE loan (
    loan_no   INTEGER PRIMARY KEY AUTOINCREMENT,
    barcode   TEXT NOT NULL REFERENCES copy (barcode),
    card_no   INTEGER NOT NULL REFERENCES reader (card_no),
    taken_on  TEXT NOT NULL,
    due_on    TEXT NOT NULL,
    back_on   TEXT,
    CHECK (due_on > taken_on)
);

-- A copy can be out only once at a time.
CREATE UNIQUE INDEX one_open_loan ON loan (barcode) WHERE back_on IS NULL;

INSERT INTO reader (card_no, full_name, joined_on) VALUES
    (1001, 'Marta Lind', '2021-02-11'),
    (1002, 'Jonas Weber', '2022-09-30'),
    (1003, 'Ines Duarte', '2023-04-05');

INSERT INTO copy VALUES
    ('B-0417', 'The Salt Road', 'P. Hallam', 'F12'),
    ('B-0418', 'Knots and Splices', 'R. Okafor', 'T03'),
    ('B-0955', 'A Short History of Maps', 'L. Brandt', 'H07');

INSERT INTO loan (barcode, card_no, taken_on, due_on, back_on) VALUES
    ('B-0417', 1001, '2024-01-08', '2024-01-29', '2024-01-27'),
    ('B-0417', 1003, '2024-02-02', '2024-02-23', NULL),
    ('B-0955', 1002, '2024-02-20', '2024-03-12', NULL);

SELECT r.full_name,
       c.title,
       CAST(julianday('2024-03-01') - julianday(l.due_on) AS INTEGER) AS days_late
FROM loan AS l
JOIN copy AS c USING (barcode)
JOIN reader AS r USING (card_no)
WHERE l.back_on IS NULL
  AND l.due_on < '2024-03-01'
ORDER BY days_late DESC;
