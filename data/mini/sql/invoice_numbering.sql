-- Invoices need numbers without holes, so a plain sequence will not do.
CREATE TYPE invoice_state AS ENUM ('draft', 'issued', 'paid', 'void');

CREATE TABLE number_block (
    year       integer PRIMARY KEY,
    last_used  integer NOT NULL DEFAULT 0
);

CREATE TABLE invoice (
    invoice_id  bigserial PRIMARY KEY,
    client      text NOT NULL,
    state       invoice_state NOT NULL DEFAULT 'draft',
    year        integer,
    running_no  integer,
    printed_no  text GENERATED ALWAYS AS (
        lpad(year::text, 4, '0') || '/' || lpad(running_no::text, 5, '0')
    ) STORED,
    issued_on   date,
    UNIQUE (year, running_no),
    CONSTRAINT number_only_when_issued CHECK ((state = 'draft') = (running_no IS NULL))
);

CREATE TABLE invoice_item (
    invoice_id  bigint NOT NULL REFERENCES invoice ON DELETE CASCADE,
    line_no     smallint NOT NULL,
    wording     text NOT NULL,
    net         numeric(10, 2) NOT NULL,
    vat_rate    numeric(4, 3) NOT NULL DEFAULT 0.200,
    PRIMARY KEY (invoice_id, line_no)
);

CREATE PROCEDURE issue(target bigint, on_day date)
LANGUAGE plpgsql AS $proc$
DECLARE
    fresh integer;
BEGIN
    INSERT INTO number_block AS nb (year, last_used)
    VALUES (extract(year FROM on_day)::integer, 1)
    ON CONFLICT (year) DO UPDATE SET last_used = nb.last_used + 1
    RETURNING last_used INTO fresh;

    UPDATE invoice
    SET state = 'issued', year = extract(year FROM on_day), running_no = fresh, issued_on = on_day
    WHERE invoice_id = target AND state = 'draft';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'invoice % is not a draft', target;   -- rolls the counter back too
    END IF;
END
$proc$;

INSERT INTO invoice (client) VALUES ('Moser roofing'), ('Linde nursery');
INSERT INTO invoice_item VALUES (1, 1, 'Slates, 300 pieces', 846.00), (1, 2, 'Delivery', 60.00);
CALL issue(1, DATE '2024-07-01');
