-- Nursing roster: find hours when a ward is understaffed.
create table ward (
    ward_no   integer primary key,
    ward_name text not null,
    min_staff integer not null default 2
);

create table nurse (
    nurse_no  integer primary key,
    surname   text not null,
    grade     text not null check (grade in ('junior', 'senior', 'lead'))
);

create table shift (
    nurse_no integer not null references nurse,
    ward_no  integer not null references ward,
    begins   timestamp not null,
    ends     timestamp not null,
    check (ends > begins and ends - begins <= interval '12 hours')
);

insert into ward values (10, 'Cardiology', 2), (20, 'Children', 3);
insert into nurse values (1, 'Abbas', 'lead'), (2, 'Costa', 'senior'), (3, 'Dahl', 'junior'), (4, 'Evans', 'senior');
insert into shift values
    (1, 10, '2024-09-02 06:00', '2024-09-02 14:00'), (2, 10, '2024-09-02 07:00', '2024-09-02 15:00'),
    (3, 20, '2024-09-02 06:00', '2024-09-02 18:00'), (4, 20, '2024-09-02 08:00', '2024-09-02 16:00'),
    (4, 20, '2024-09-03 01:00', '2024-09-03 09:00');

-- One row per ward and hour of the day shift.
select w.ward_name, h.slot::time as hour, present.heads, w.min_staff - present.heads as short
from ward w
cross join generate_series(timestamp '2024-09-02 06:00', '2024-09-02 17:00', '1 hour') as h (slot)
cross join lateral (
    select count(*) as heads
    from shift s
    where s.ward_no = w.ward_no and s.begins <= h.slot and s.ends > h.slot
) as present
where present.heads < w.min_staff
order by w.ward_no, h.slot;

-- Rest of less than eleven hours between two shifts of one person.
select n.surname, pair.ends as went_home, pair.next_start
from (
    select nurse_no, ends, lead(begins) over (partition by nurse_no order by begins) as next_start
    from shift
) as pair
natural join nurse n
where pair.next_start - pair.ends < interval '11 hours';

-- Each nurse with the most recent shift, if there is one.
select n.surname, n.grade, latest.begins
from nurse n
left join lateral (select begins from shift where nurse_no = n.nurse_no order by begins desc limit 1) latest on true;
