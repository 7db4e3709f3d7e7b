-- Departures along one tram line, with the waiting time between cars.
create table stop (
    position  integer primary key,
    stop_name text not null unique
);

create table run (
    run_no    integer primary key,
    leaves    text not null,          -- departure from the first stop, HH:MM
    weekdays  text not null default 'MTWTF--'
);

create table leg (
    from_pos  integer primary key references stop (position),
    minutes   integer not null check (minutes > 0)
);

insert into stop values
    (1, 'Harbour'), (2, 'Fish Market'), (3, 'Old Bridge'), (4, 'University'), (5, 'North Depot');
insert into leg values (1, 3), (2, 2), (3, 5), (4, 6);
insert into run (run_no, leaves) values
    (501, '05:40'), (503, '06:00'), (505, '06:15'), (507, '06:25'), (509, '06:35');

create view elapsed as
select s.position, s.stop_name,
       coalesce(sum(l.minutes) over (order by s.position
                                     rows between unbounded preceding and 1 preceding), 0) as offset_min
from stop s
left join leg l on l.from_pos = s.position;

create view board as
select r.run_no, e.position, e.stop_name,
       strftime('%H:%M', r.leaves, '+' || e.offset_min || ' minutes') as passes
from run r cross join elapsed e;

-- The display at the university.
select passes, run_no,
       (strftime('%s', passes) - strftime('%s', lag(passes) over (order by passes))) / 60 as gap
from board
where stop_name = 'University'
order by passes;

-- First car that reaches the depot after half past six.
select min(passes) as arrival
from board
where position = (select max(position) from stop) and passes > '06:30';

-- Road works slow one section down from Monday on.
update leg set minutes = minutes + 2
where from_pos = (select position from stop where stop_name = 'Old Bridge');
