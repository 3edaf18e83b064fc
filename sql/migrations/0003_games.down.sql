revoke usage on schema orchestration from public;
drop function orchestration.is_enrolled(uuid);
drop table orchestration.operator_actions;
drop table orchestration.trigger_failures;
drop table orchestration.transitions;
drop table orchestration.set_aside;
drop table orchestration.live_games;
drop table orchestration.enrolments;
