-- The triggers on games: a migration, and so a lock, of their own.
create trigger "00_orchestration_created" after insert on public.games
    for each row execute function orchestration.on_game_created();
create trigger "00_orchestration_keep" before update on public.games
    for each row when (current_setting('application_name') = 'orchestration.legacy_sweep')
    execute function orchestration.keep_from_legacy();
create trigger orchestration_updated after update on public.games
    referencing old table as old_rows new table as new_rows
    for each statement execute function orchestration.on_games_updated();
create trigger orchestration_deleted after delete on public.games
    for each row execute function orchestration.on_game_deleted();
