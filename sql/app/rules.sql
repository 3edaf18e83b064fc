-- What the application keeps true by triggers of its own, in every version.
create function public.update_game_player_count() returns trigger
language plpgsql security definer
as $$
begin
    if tg_op = 'INSERT' then
        if new.left_at is null then
            update public.games set current_players = current_players + 1 where id = new.game_id;
        end if;
    elsif tg_op = 'UPDATE' then
        if old.left_at is null and new.left_at is not null then
            update public.games set current_players = current_players - 1 where id = new.game_id;
        elsif old.left_at is not null and new.left_at is null then
            update public.games set current_players = current_players + 1 where id = new.game_id;
        end if;
    elsif old.left_at is null then
        update public.games set current_players = current_players - 1 where id = old.game_id;
    end if;
    return null;
end
$$;
create trigger update_player_count_trigger
    after insert or update of left_at or delete on public.game_participants
    for each row execute function public.update_game_player_count();

create function public.prevent_self_voting() returns trigger
language plpgsql security definer
as $$
begin
    if exists (
        select from public.submissions s where s.id = new.submission_id and s.user_id = new.voter_id
    ) then
        raise exception 'Users cannot vote for their own submission' using errcode = 'check_violation';
    end if;
    return new;
end
$$;
create trigger prevent_self_voting_trigger
    before insert or update on public.votes
    for each row execute function public.prevent_self_voting();

create function public.update_submission_vote_count() returns trigger
language plpgsql security definer
as $$
begin
    if tg_op in ('UPDATE', 'DELETE') then
        update public.submissions set vote_count = vote_count - 1 where id = old.submission_id;
    end if;
    if tg_op in ('INSERT', 'UPDATE') then
        update public.submissions set vote_count = vote_count + 1 where id = new.submission_id;
    end if;
    return null;
end
$$;
create trigger update_vote_count_trigger
    after insert or update of submission_id or delete on public.votes
    for each row execute function public.update_submission_vote_count();

-- Votes become placements and a winner; the earlier drawing wins a tie.
create function public.calculate_game_results(game_uuid uuid) returns void
language plpgsql security definer
as $$
declare
    winning_submission uuid;
    winning_user uuid;
begin
    update public.submissions s
    set vote_count = (select count(*) from public.votes v where v.submission_id = s.id)
    where s.game_id = game_uuid;

    with ranked as (
        select s.user_id, row_number() over (order by s.vote_count desc, s.submitted_at, s.id) as place
        from public.submissions s
        where s.game_id = game_uuid
    )
    update public.game_participants p
    set placement = ranked.place
    from ranked
    where p.game_id = game_uuid and p.user_id = ranked.user_id;

    select s.id, s.user_id into winning_submission, winning_user
    from public.submissions s
    where s.game_id = game_uuid
    order by s.vote_count desc, s.submitted_at, s.id
    limit 1;

    if winning_submission is not null then
        update public.submissions s
        set is_winner = (s.id = winning_submission)
        where s.game_id = game_uuid and s.is_winner is distinct from (s.id = winning_submission);
        update public.games set winner_id = winning_user where id = game_uuid;
    end if;
end
$$;

create function public.cleanup_expired_games() returns integer
language plpgsql security definer
as $$
declare
    cancelled_count integer;
begin
    with expired as (
        update public.games
        set status = 'cancelled'
        where status in ('waiting', 'briefing') and expires_at < now()
        returning id
    )
    select count(*) into cancelled_count from expired;
    return cancelled_count;
end
$$;

-- Plays net.http_post(): what would have gone over HTTP is kept in a table.
create function public.legacy_http_post(
    url text, body jsonb, headers jsonb default '{}', timeout_milliseconds integer default 10000
) returns bigint
language sql security definer
as $$
    insert into public.legacy_broadcasts (url, headers, body) values (url, headers, body) returning id
$$;
