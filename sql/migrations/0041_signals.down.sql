drop function orchestration.signals();
