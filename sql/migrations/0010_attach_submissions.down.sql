drop trigger "00_orchestration_keep" on public.submissions;
drop trigger orchestration_updated on public.submissions;
drop trigger orchestration_inserted on public.submissions;
