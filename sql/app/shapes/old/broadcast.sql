-- An older broadcast: one function for every table and operation, envelope 1.0.0.
create function public.broadcast_game_event() returns trigger
language plpgsql security definer
as $$
declare
    payload jsonb;
begin
    payload := jsonb_build_object(
        'table', tg_table_name,
        'operation', tg_op,
        'record', case when tg_op <> 'DELETE' then to_jsonb(new) end,
        'old_record', case when tg_op <> 'INSERT' then to_jsonb(old) end
    );
    perform public.legacy_http_post(
        'http://localhost:54321/functions/v1/broadcast-pubnub-event',
        jsonb_build_object(
            'type', case when tg_table_name = 'games' then 'phase_changed' else tg_table_name || '_' || lower(tg_op) end,
            'gameId', coalesce(payload -> 'record' ->> 'id', payload -> 'old_record' ->> 'id'),
            'userId', 'system',
            'timestamp', extract(epoch from now()) * 1000,
            'version', '1.0.0',
            'data', case when tg_table_name = 'games' then jsonb_build_object(
                'newPhase', payload -> 'record' ->> 'status',
                'previousPhase', payload -> 'old_record' ->> 'status',
                'phaseStartedAt', now()
            ) else payload end
        )
    );
    return coalesce(new, old);
exception when others then
    return coalesce(new, old);
end
$$;

create trigger games_created_or_removed
    after insert or delete on public.games
    for each row execute function public.broadcast_game_event();
create trigger games_status_changed
    after update of status on public.games
    for each row
    when (old.status is distinct from new.status)
    execute function public.broadcast_game_event();
create trigger participants_changed
    after insert or update or delete on public.game_participants
    for each row execute function public.broadcast_game_event();
create trigger submissions_changed
    after insert or update or delete on public.submissions
    for each row execute function public.broadcast_game_event();
create trigger votes_inserted
    after insert on public.votes
    for each row execute function public.broadcast_game_event();
create trigger votes_removed
    after delete on public.votes
    for each row execute function public.broadcast_game_event();
