drop function orchestration.forget_games(timestamptz, integer, boolean);
drop function orchestration.drop_detached();
drop function orchestration.detach_day(date);
drop function orchestration.old_partitions(interval);
