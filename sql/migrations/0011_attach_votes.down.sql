drop trigger orchestration_inserted on public.votes;
