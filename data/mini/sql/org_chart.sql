-- Who reports to whom, and what every branch of the tree costs.
create table staff (
    badge    integer primary key,
    name     text not null,
    role     text not null,
    boss     integer references staff (badge),
    salary   numeric not null
);
create index staff_boss on staff (boss);

insert into staff values
    (1, 'Halima Noor', 'director', null, 98000),
    (2, 'Piet Jansen', 'head of workshop', 1, 71000),
    (3, 'Rosa Vidal', 'head of sales', 1, 69500),
    (4, 'Anders Moe', 'welder', 2, 44200),
    (5, 'Lucie Petit', 'fitter', 2, 43000),
    (6, 'Tom Price', 'apprentice', 5, 19800),
    (7, 'Yuki Mori', 'account manager', 3, 52300);

-- Indented chart, deepest level last within each branch.
with recursive chart (badge, name, role, depth, trail) as (
    select badge, name, role, 0, printf('%04d', badge)
    from staff
    where boss is null
    union all
    select s.badge, s.name, s.role, c.depth + 1, c.trail || '.' || printf('%04d', s.badge)
    from staff s
    join chart c on s.boss = c.badge
)
select substr('            ', 1, depth * 3) || name as person, role
from chart
order by trail;

-- Payroll below each manager, the manager included.
with recursive below (top, badge) as (
    select badge, badge from staff
    union all
    select b.top, s.badge
    from below b join staff s on s.boss = b.badge
)
select m.name as manager,
       count(*) - 1 as people,
       sum(s.salary) as payroll
from below b
join staff m on m.badge = b.top
join staff s on s.badge = b.badge
group by m.badge
having people > 0
order by payroll desc;

-- Promote the apprentice once the training ends.
update staff set role = 'fitter', salary = salary * 1.6, boss = 2 where badge = 6;
