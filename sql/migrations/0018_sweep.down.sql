drop function orchestration.all_submitted_since(pg_snapshot);
drop function orchestration.sweep(integer, uuid[], interval, interval, uuid[]);
drop type orchestration.sweep_result;
