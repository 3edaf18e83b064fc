drop function orchestration.warm_up_sweep();
