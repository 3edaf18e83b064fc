-- The trigger on game_transition_log: a migration, and so a lock, of its own.
create trigger "00_orchestration_keep" before insert on public.game_transition_log
    for each row when (current_setting('application_name') = 'orchestration.legacy_sweep')
    execute function orchestration.keep_from_legacy();
