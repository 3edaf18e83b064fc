drop function orchestration.why_not_down();
drop function orchestration.reconcile(boolean, integer);
drop function orchestration.missed_events(uuid[]);
drop function orchestration.disagreeing(uuid[]);
drop function orchestration.reconcile_game(uuid, boolean);
