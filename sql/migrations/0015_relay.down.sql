drop function orchestration.timer_syncs(uuid[], smallint[]);
drop function orchestration.lane_lock(smallint);
drop table orchestration.lane_progress;
