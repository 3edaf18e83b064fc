-- As on Supabase: the application's roles may reach every table, and row level security decides.
grant usage on schema public to anon, authenticated, service_role;
grant select, insert, update, delete on all tables in schema public to authenticated, service_role;
grant select on all tables in schema public to anon;
grant usage, select on all sequences in schema public to authenticated, service_role;
grant execute on all functions in schema public to anon, authenticated, service_role;
revoke insert, update, delete on public.game_transition_log, public.game_metadata,
    public.advisory_lock_metadata, public.legacy_broadcasts from authenticated;

alter table public.users enable row level security;
create policy users_read on public.users for select to authenticated, anon using (true);
create policy users_own_insert on public.users for insert to authenticated with check (id = auth.uid());
create policy users_own_update on public.users for update to authenticated using (id = auth.uid());

alter table public.submissions enable row level security;
create policy submissions_read on public.submissions for select to authenticated using (true);
create policy submissions_own_insert on public.submissions for insert to authenticated
    with check (user_id = auth.uid());
create policy submissions_own_update on public.submissions for update to authenticated
    using (user_id = auth.uid());

alter table public.votes enable row level security;
create policy votes_read on public.votes for select to authenticated using (true);
create policy votes_own_insert on public.votes for insert to authenticated with check (voter_id = auth.uid());
create policy votes_own_update on public.votes for update to authenticated using (voter_id = auth.uid());

-- Where service_role could not be given BYPASSRLS, these say the same.
create policy users_service on public.users for all to service_role using (true) with check (true);
create policy submissions_service on public.submissions for all to service_role using (true) with check (true);
create policy votes_service on public.votes for all to service_role using (true) with check (true);
