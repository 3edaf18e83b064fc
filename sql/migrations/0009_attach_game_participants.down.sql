drop trigger "00_orchestration_keep" on public.game_participants;
drop trigger orchestration_deleted on public.game_participants;
drop trigger orchestration_updated on public.game_participants;
drop trigger orchestration_inserted on public.game_participants;
