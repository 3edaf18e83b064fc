-- Before it was switched off: row level security on games and their participants.
alter table public.games enable row level security;
create policy games_read on public.games for select to authenticated, anon using (true);
create policy games_create on public.games for insert to authenticated with check (created_by = auth.uid());
create policy games_own_update on public.games for update to authenticated using (created_by = auth.uid());
create policy games_service on public.games for all to service_role using (true) with check (true);

alter table public.game_participants enable row level security;
create policy participants_read on public.game_participants for select to authenticated using (true);
create policy participants_join on public.game_participants for insert to authenticated
    with check (user_id = auth.uid());
create policy participants_own_update on public.game_participants for update to authenticated
    using (user_id = auth.uid());
create policy participants_service on public.game_participants for all to service_role
    using (true) with check (true);
