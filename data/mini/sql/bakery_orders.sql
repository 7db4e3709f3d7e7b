-- Morning orders of a small bakery; prices are kept in cents.
create table product (
    sku        text primary key,
    label      text not null unique,
    cents      integer not null check (cents > 0),
    discontinued integer not null default 0
);

create table basket (
    basket_id  integer primary key,
    customer   text not null,
    pickup_at  text not null
);

create table basket_line (
    basket_id  integer not null references basket on delete cascade,
    sku        text not null references product,
    quantity   integer not null check (quantity between 1 and 200),
    primary key (basket_id, sku)
) without rowid;

insert into product (sku, label, cents) values
    ('RYE1', 'Rye loaf, one kilogram', 480),
    ('BAGU', 'Baguette', 130),
    ('CROI', 'Butter croissant', 145),
    ('POPP', 'Poppy seed roll', 75);

insert into basket values
    (1, 'Hotel Linden', '2024-05-03 06:15'),
    (2, 'Kiosk at the tram stop', '2024-05-03 06:40'),
    (3, 'Mrs Aalto', '2024-05-03 09:00');

insert into basket_line values
    (1, 'CROI', 60), (1, 'BAGU', 25), (1, 'RYE1', 4),
    (2, 'POPP', 80), (2, 'CROI', 20),
    (3, 'RYE1', 1);

-- Five percent off for anything above fifty euros.
with gross as (
    select b.basket_id, b.customer, sum(bl.quantity * p.cents) as total
    from basket b
    join basket_line bl on bl.basket_id = b.basket_id
    join product p on p.sku = bl.sku
    group by b.basket_id, b.customer
)
select customer,
       printf('%.2f', total / 100.0) as before_discount,
       printf('%.2f', case when total > 5000 then total * 0.95 else total end / 100.0) as to_pay
from gross
order by total desc;

-- What the ovens must deliver in all.
select p.label, coalesce(sum(bl.quantity), 0) as pieces
from product p left join basket_line bl using (sku)
where not p.discontinued
group by p.label;
