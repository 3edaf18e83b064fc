drop trigger orchestration_deleted on public.games;
drop trigger orchestration_updated on public.games;
drop trigger "00_orchestration_keep" on public.games;
drop trigger "00_orchestration_created" on public.games;
