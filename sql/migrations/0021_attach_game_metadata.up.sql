-- The trigger on game_metadata: a migration, and so a lock, of its own.
create trigger "00_orchestration_keep" before insert or update or delete on public.game_metadata
    for each row when (current_setting('application_name') = 'orchestration.legacy_sweep')
    execute function orchestration.keep_from_legacy();
