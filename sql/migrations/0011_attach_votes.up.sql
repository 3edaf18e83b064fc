-- The triggers on votes: a migration, and so a lock, of their own.
create trigger orchestration_inserted after insert on public.votes
    referencing new table as new_rows
    for each statement execute function orchestration.on_players_acted();
