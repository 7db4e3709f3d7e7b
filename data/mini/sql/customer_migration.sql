-- Migration 014: split customer.address into columns and normalise e-mail.
CREATE TABLE IF NOT EXISTS customer (
    customer_id  integer PRIMARY KEY,
    display_name text,
    email        text,
    address      text
);

INSERT INTO customer VALUES
    (1, 'Olga Brandt', 'Olga@Example.org ', '12 Mill Lane; 4070 Basel; CH'),
    (2, 'Karim Saidi', 'karim@example.org', '7 rue du Port; 29200 Brest; FR'),
    (3, 'Nils Holm', NULL, NULL)
ON CONFLICT DO NOTHING;

START TRANSACTION;
SET LOCAL lock_timeout = '2s';

ALTER TABLE customer
    ADD COLUMN street   text,
    ADD COLUMN postcode text,
    ADD COLUMN city     text,
    ADD COLUMN country  char(2);

UPDATE customer
SET street   = btrim(split_part(address, ';', 1)),
    postcode = substring(split_part(address, ';', 2) FROM '[0-9]+'),
    city     = btrim(regexp_replace(split_part(address, ';', 2), '[0-9]+', '')),
    country  = upper(btrim(split_part(address, ';', 3))),
    email    = lower(btrim(email))
WHERE address LIKE '%;%;%';

-- Stop here if a single address could not be split.
DO $check$
DECLARE
    bad integer;
BEGIN
    SELECT count(*) INTO bad
    FROM customer
    WHERE address IS NOT NULL AND (street = '' OR postcode IS NULL OR length(country) <> 2);
    IF bad > 0 THEN
        RAISE EXCEPTION '% addresses need attention first', bad;
    END IF;
END
$check$;

CREATE UNIQUE INDEX customer_email_key ON customer (lower(email)) WHERE email IS NOT NULL;
ALTER TABLE customer DROP COLUMN address;
COMMENT ON COLUMN customer.country IS 'ISO 3166 code with two letters';

COMMIT AND NO CHAIN;
