delete from orchestration.flags where name = 'gateway_connections';
drop function orchestration.remove_flag(text, text, text);
drop function orchestration.add_flag(text, text, boolean, numeric, text, text, text);
