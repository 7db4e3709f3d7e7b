-- Cut a stream of page views into visits: half an hour of silence ends a visit.
create temporary table page_view (
    visitor  uuid not null,
    seen_at  timestamp not null,
    path     text not null,
    millis   integer
);

insert into page_view
select md5((n / 9 % 60)::text)::uuid,
       timestamp '2024-04-01 08:00' + n * interval '97 seconds' + (n % 4) * interval '8 minutes',
       (array['/', '/prices', '/help', '/contact', '/basket', '/thanks'])[1 + (n * 7 + n / 4) % 6],
       40 + (n * 37) % 900
from generate_series(1, 2000) as n;

create index on page_view (visitor, seen_at);
analyze page_view;

with gaps as (
    select visitor, seen_at, path, millis,
           seen_at - lag(seen_at) over w > interval '30 minutes' as is_late
    from page_view
    window w as (partition by visitor order by seen_at)
),
numbered as (
    select *, count(*) filter (where coalesce(is_late, true))
                  over (partition by visitor order by seen_at) as visit_no
    from gaps
),
visit as (
    select visitor, visit_no,
           min(seen_at) as started,
           max(seen_at) - min(seen_at) as lasted,
           count(*) as pages,
           array_agg(path order by seen_at) as route,
           bool_or(path = '/thanks') as bought
    from numbered
    group by visitor, visit_no
)
select date_trunc('hour', started) as hour,
       count(*) as visits,
       round(avg(pages), 2) as pages_per_visit,
       percentile_cont(0.5) within group (order by lasted) as median_length,
       round(100.0 * count(*) filter (where bought) / count(*), 1) as conversion,
       mode() within group (order by route[1]) as usual_entry
from visit
group by 1
order by 1;

-- Slow pages: the ninety-fifth percentile of the response time.
select path, percentile_disc(0.95) within group (order by millis) as p95
from page_view
group by path
having count(*) >= 50
order by p95 desc;
