-- Nightly import of a supplier's price list into the catalogue.
create table catalogue (
    ean         char(13) primary key,
    description text not null,
    price       numeric(8, 2) not null,
    valid_from  date not null default current_date,
    is_active   boolean not null default true
);

create table price_history (
    ean      char(13) not null,
    price    numeric(8, 2) not null,
    replaced timestamptz not null default now()
);

insert into catalogue (ean, description, price, valid_from) values
    ('4000000000013', 'Paint brush 40 mm', 3.95, '2023-11-01'),
    ('4000000000020', 'Paint roller', 7.20, '2023-11-01'),
    ('4000000000037', 'Masking tape', 2.10, '2023-11-01');

begin;

create temp table incoming (ean text, description text, price text) on commit drop;
insert into incoming values
    ('4000000000013', 'Paint brush 40 mm ', '4,25'),
    ('4000000000020', 'Paint roller', '7,20'),
    ('4000000000044', ' Dust sheet 4 x 5 m', '5,60'),
    ('broken', 'no such code', 'n/a');

-- Keep only rows with a usable code and price.
create temp view clean as
select distinct on (ean) ean::char(13) as ean, btrim(description) as description,
       replace(price, ',', '.')::numeric(8, 2) as price
from (select * from incoming offset 0) i
where ean ~ '^[0-9]{13}$' and price ~ '^[0-9]+,[0-9]{2}$'
order by ean;

with outdated as (
    select c.ean, c.price from catalogue c join clean n using (ean) where c.price <> n.price
)
insert into price_history (ean, price) table outdated;

insert into catalogue as c (ean, description, price)
select ean, description, price from clean
on conflict (ean) do update
    set price = excluded.price, description = excluded.description, valid_from = current_date
    where (c.price, c.description) is distinct from (excluded.price, excluded.description);

-- Articles the supplier no longer lists stay in the table but leave the shop.
update catalogue c set is_active = false
where not exists (select 1 from clean where clean.ean = c.ean);

drop view clean;
commit;
