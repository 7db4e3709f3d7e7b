-- Double-entry transfers between accounts (PostgreSQL).
CREATE SCHEMA bank;
SET search_path = bank;

CREATE TABLE account (
    iban      varchar(34) PRIMARY KEY,
    owner     text NOT NULL,
    overdraft numeric(12, 2) NOT NULL DEFAULT 0 CHECK (overdraft >= 0),
    closed_at timestamptz
);

CREATE TABLE posting (
    transfer_id bigint NOT NULL,
    iban        varchar(34) NOT NULL REFERENCES account,
    amount      numeric(12, 2) NOT NULL,
    booked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (transfer_id, iban)
);

CREATE SEQUENCE transfer_seq START 7000;

CREATE FUNCTION balance(which text) RETURNS numeric
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(amount), 0) FROM bank.posting WHERE iban = which;
$$;

CREATE FUNCTION transfer(payer text, payee text, euros numeric) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    ticket bigint;
    credit numeric;
BEGIN
    IF euros <= 0 THEN
        RAISE EXCEPTION 'amount must be positive, got %', euros;
    END IF;
    -- Lock both rows in a fixed order so that two transfers cannot deadlock.
    PERFORM 1 FROM bank.account
    WHERE iban IN (payer, payee) AND closed_at IS NULL
    ORDER BY iban
    FOR UPDATE;

    SELECT overdraft INTO STRICT credit FROM bank.account WHERE iban = payer;
    IF bank.balance(payer) + credit < euros THEN
        RAISE EXCEPTION 'account % is short of money', payer USING ERRCODE = 'P0042';
    END IF;

    ticket := nextval('bank.transfer_seq');
    INSERT INTO bank.posting (transfer_id, iban, amount)
    VALUES (ticket, payer, -euros), (ticket, payee, euros);
    RETURN ticket;
END;
$$;

INSERT INTO account (iban, owner, overdraft) VALUES
    ('XX01 0001', 'Bicycle workshop', 500), ('XX01 0002', 'Tyre supplier', 0);
SELECT transfer('XX01 0001', 'XX01 0002', 320.50) AS receipt;
SELECT owner, balance(iban) AS remaining FROM account ORDER BY owner;
