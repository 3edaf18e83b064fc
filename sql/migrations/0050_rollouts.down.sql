drop function orchestration.halt_rollouts(text, text, jsonb);
drop function orchestration.record_look(bigint, bigint, bigint, timestamptz, boolean, jsonb, jsonb);
drop function orchestration.change_rollout(bigint, bigint, jsonb, text, text, text, jsonb, jsonb);
drop function orchestration.begin_rollout(text, jsonb, numeric, text, text, text, timestamptz, jsonb);
drop function orchestration.rollout_changed(orchestration.rollouts, text, text, text, jsonb, jsonb);
drop table orchestration.rollout_verdicts;
drop table orchestration.rollout_changes;
drop table orchestration.rollouts;
