-- Stock is never edited by hand: movements are appended, triggers keep the balance.
CREATE TABLE part (
    part_no  TEXT PRIMARY KEY,
    on_hand  INTEGER NOT NULL DEFAULT 0,
    reorder  INTEGER NOT NULL DEFAULT 10
);

CREATE TABLE movement (
    seq      INTEGER PRIMARY KEY,
    part_no  TEXT NOT NULL REFERENCES part (part_no),
    delta    INTEGER NOT NULL CHECK (delta <> 0),
    reason   TEXT NOT NULL,
    noted_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE alert (part_no TEXT PRIMARY KEY, left_over INTEGER NOT NULL);

CREATE TRIGGER refuse_negative_stock BEFORE INSERT ON movement
WHEN NEW.delta < 0
BEGIN
    SELECT RAISE(ABORT, 'not enough parts on the shelf')
    FROM part
    WHERE part_no = NEW.part_no AND on_hand + NEW.delta < 0;
END;

CREATE TRIGGER apply_movement AFTER INSERT ON movement
BEGIN
    UPDATE part SET on_hand = on_hand + NEW.delta WHERE part_no = NEW.part_no;
    INSERT INTO alert (part_no, left_over)
    SELECT part_no, on_hand FROM part
    WHERE part_no = NEW.part_no AND on_hand < reorder
    ON CONFLICT (part_no) DO UPDATE SET left_over = excluded.left_over;
    DELETE FROM alert
    WHERE part_no IN (SELECT part_no FROM part WHERE on_hand >= reorder);
END;

CREATE TRIGGER ledger_is_append_only BEFORE UPDATE ON movement
BEGIN
    SELECT RAISE(ABORT, 'book a correction instead');
END;

INSERT INTO part (part_no, reorder) VALUES ('M6-BOLT', 200), ('SEAL-14', 25), ('CHAIN-8', 4);
INSERT INTO movement (part_no, delta, reason) VALUES
    ('M6-BOLT', 1000, 'delivery 5531'),
    ('SEAL-14', 40, 'delivery 5531'),
    ('M6-BOLT', -350, 'job 88'),
    ('SEAL-14', -22, 'job 88'),
    ('CHAIN-8', 6, 'returned from site');

SELECT part_no, on_hand, left_over IS NOT NULL AS must_order
FROM part LEFT JOIN alert USING (part_no);
