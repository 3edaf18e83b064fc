drop function orchestration.games_of_player(uuid, integer);
drop function orchestration.game_timer(uuid, uuid);
drop function orchestration.timer_pass(text);
drop function orchestration.accept_event(uuid, text, text, text, jsonb, text);
