drop policy sketchy_relay_select on orchestration.operator_actions;
revoke select on orchestration.operator_actions from sketchy_relay;
drop function orchestration.ask_time_sync(uuid[], text, text);
