-- The triggers on submissions: a migration, and so a lock, of their own.
create trigger orchestration_inserted after insert on public.submissions
    referencing new table as new_rows
    for each statement execute function orchestration.on_players_acted();
create trigger orchestration_updated after update on public.submissions
    referencing old table as old_rows new table as new_rows
    for each statement execute function orchestration.on_players_acted();
create trigger "00_orchestration_keep" before update on public.submissions
    for each row when (current_setting('application_name') = 'orchestration.legacy_sweep')
    execute function orchestration.keep_from_legacy();
