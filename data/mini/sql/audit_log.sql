-- Generic change log: attach one trigger per table that should be watched.
create table audit (
    event_id   bigint generated always as identity primary key,
    table_name text not null,
    action     text not null,
    actor      text not null default current_user,
    happened   timestamptz not null default now(),
    before_row jsonb,
    after_row  jsonb
);
create index audit_recent on audit using brin (happened);

create or replace function write_audit() returns trigger
language plpgsql security definer as $body$
begin
    if tg_op = 'UPDATE' and old is not distinct from new then
        return null;   -- nothing changed, nothing to record
    end if;
    insert into audit (table_name, action, before_row, after_row)
    values (
        tg_table_schema || '.' || tg_table_name,
        lower(tg_op),
        case when tg_op in ('UPDATE', 'DELETE') then to_jsonb(old) end,
        case when tg_op in ('INSERT', 'UPDATE') then to_jsonb(new) end
    );
    return null;
end;
$body$;

create table tariff (
    zone   smallint primary key,
    price  numeric(6, 2) not null,
    notice text
);

create trigger tariff_audit
    after insert or update or delete on tariff
    for each row execute function write_audit();

insert into tariff values (1, 2.40, null), (2, 3.10, null), (3, 4.80, 'includes ferry');
update tariff set price = price + 0.20 where zone > 1;
delete from tariff where zone = 3;

-- Which columns were changed, and from what to what?
select a.happened, a.actor, o.key as column_name, o.value as was, n.value as became
from audit a
cross join lateral jsonb_each_text(a.before_row) o
join lateral jsonb_each_text(a.after_row) n on n.key = o.key
where a.action = 'update'
  and o.value is distinct from n.value
order by a.event_id, o.key;
