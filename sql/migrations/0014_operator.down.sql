drop function orchestration.drop_set_aside(uuid, text, text);
drop function orchestration.retry_set_aside(uuid[], text, text);
drop function orchestration.write_deadline(uuid, timestamptz);
drop function orchestration.act_on_game(text, uuid, text, timestamptz, timestamptz, timestamptz);
drop function orchestration.act_on_games(text, uuid[], text, text, integer, boolean);
drop type orchestration.game_act;
