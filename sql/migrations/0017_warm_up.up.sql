-- The first sweep of a session plans some thirty statements, which takes as long as ten sweeps. A shift has that done
-- before its first deadline, with no game at all or with one that is nobody's: no row of the application is locked or
-- written, and no trigger of its rows fires. False when something failed: then the first sweep will say so.
create function orchestration.warm_up_sweep() returns boolean
    language plpgsql volatile security definer set search_path = '' set lock_timeout = '20ms'
    -- The plans stay, so they must be those of the sweep.
    set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_nobodys uuid := gen_random_uuid();
    v_at timestamptz := clock_timestamp();
begin
    perform set_config('orchestration.cause', 'sweep', true),
            set_config('orchestration.swept_at', v_at::text, true);
    perform orchestration.lock_games(null, v_at, v_at, 1);
    perform orchestration.lock_games(array[v_nobodys]);
    perform orchestration.decide_moves(array[v_nobodys], v_at);
    perform orchestration.without_busy(array[row(v_nobodys, 'voting', 'completed', v_at, null, null)::orchestration.move]);
    perform orchestration.write_results(array[v_nobodys]);
    perform orchestration.make_moves('{}', v_at);
    perform orchestration.record_changes('{}');
    perform set_config('orchestration.cause', '', true);
    return true;
exception when others then
    return false;
end
$$;
revoke all on function orchestration.warm_up_sweep() from public;
grant execute on function orchestration.warm_up_sweep() to sketchy_timer;
