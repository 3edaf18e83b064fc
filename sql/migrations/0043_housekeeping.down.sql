drop function orchestration.forget_old(text, timestamptz, integer, boolean);
