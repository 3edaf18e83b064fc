drop function orchestration.relieve_others(text, text, integer, interval);
drop function orchestration.make_current(text, text, text, text, text, jsonb, text, text);
drop table orchestration.releases;
alter table orchestration.shifts drop column release;
