drop index orchestration.transitions_ended_idx;
drop function orchestration.ended_games(timestamptz, timestamptz, integer);
drop function orchestration.metric_window(timestamptz, timestamptz);
