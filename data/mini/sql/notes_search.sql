-- Full text search over personal notes (SQLite with FTS5).
create table note (
    note_id   integer primary key,
    subject   text not null,
    body      text not null default '',
    edited_at text not null default current_timestamp
);

create table tag (
    note_id integer not null references note on delete cascade,
    word    text not null collate nocase,
    primary key (word, note_id)
) without rowid;

create virtual table note_index using fts5 (
    subject, body, content = 'note', content_rowid = 'note_id', tokenize = 'porter unicode61'
);

create trigger note_added after insert on note begin
    insert into note_index (rowid, subject, body) values (new.note_id, new.subject, new.body);
end;

create trigger note_removed after delete on note begin
    insert into note_index (note_index, rowid, subject, body)
    values ('delete', old.note_id, old.subject, old.body);
end;

create trigger note_changed after update of subject, body on note begin
    insert into note_index (note_index, rowid, subject, body)
    values ('delete', old.note_id, old.subject, old.body);
    insert into note_index (rowid, subject, body)
    values (new.note_id, new.subject, new.body);
    update note set edited_at = current_timestamp where note_id = new.note_id;
end;

insert into note (subject, body) values
    ('Sharpening the plane', 'Flatten the back first, then raise a burr on the bevel.'),
    ('Tomato seedlings', 'Potted on in April; the windowsill was too dark.'),
    ('Garden plan', 'Beans behind the tomatoes, planting distance forty centimetres.');
insert into tag values (1, 'workshop'), (2, 'garden'), (3, 'Garden');

-- Best match first, with the hit marked.
select n.subject, snippet(note_index, 1, '[', ']', ' ... ', 8) as extract
from note_index
join note n on n.note_id = note_index.rowid
where note_index match 'plant* or tomato'
order by bm25(note_index, 4.0, 1.0);

select word, count(*) as notes from tag group by word having count(*) > 1;
