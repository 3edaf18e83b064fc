drop function orchestration.timer_syncs(uuid[], smallint[]);
drop function orchestration.lane_lock(smallint);
alter table orchestration.lanes drop column waiting_from;
