drop trigger "00_orchestration_keep" on public.game_metadata;
