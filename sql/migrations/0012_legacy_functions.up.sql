-- Versions of the application's functions that leave enrolled games alone. Nothing here locks a table: a function is
-- replaced in place (same oid, owner and grants), and its exact definition kept for the way back.
create table orchestration.replaced_functions (
    signature text primary key,
    definition text not null,
    replacement_body text,
    replaced_at timestamptz not null default clock_timestamp()
);
comment on column orchestration.replaced_functions.replacement_body is
    'What we put there; when the application has put something else there since, we leave it alone';

-- Puts a guard in front of a PL/pgSQL body: the whole body is a block, and a block may stand inside another.
-- Lines of the form "#option ..." must stay first. A guard that fails, because our schema is gone, guards
-- nothing.
create function orchestration.guarded_body(
    p_body text, p_guard text, p_handlers text default 'when others then null;'
) returns text
    language plpgsql immutable strict set search_path = ''
as $$
declare
    v_options text := coalesce(substring(p_body from '^\s*((?:#[^\n]*\n\s*)+)'), '');
    v_block text := rtrim(substr(p_body, length(substring(p_body from '^\s*(?:#[^\n]*\n\s*)*')) + 1), E' \t\r\n');
begin
    return E'\n' || v_options || E'begin\n    begin ' || p_guard || ' exception ' || p_handlers || E' end;\n' || v_block
        -- A comment may stand behind the last semicolon, or behind an end that has none.
        || E'\n' || case when v_block ~ ';\s*(--[^\n]*\s*)*$' then '' else ';' end || E'\nend\n';
end
$$;

-- The list without enrolled games, from a copy of the application's own. When our schema is gone, it is the list as it
-- was; when it cannot be asked just now, an empty one: a game of ours must not be moved by two.
create function orchestration.filtered_list_body(p_body text, p_language text) returns text
    language plpgsql immutable strict set search_path = ''
as $$
declare
    v_ours text := 'return query select o.* from orchestration.legacy_find_expired_games(2147483647) o '
        || 'where not orchestration.is_enrolled(o.game_id) limit $1; return;';
    v_gone text := 'when undefined_function or undefined_table or invalid_schema_name or insufficient_privilege then null; '
        || 'when others then return;';
begin
    if p_language = 'plpgsql' then
        return orchestration.guarded_body(p_body, v_ours, v_gone);
    end if;
    -- In SQL a name means the column before the parameter.
    return orchestration.guarded_body(
        E'#variable_conflict use_column\nbegin\n    return query ' || regexp_replace(p_body, ';\s*$', '') || E'\n;\nend',
        v_ours, v_gone);
end
$$;

create function orchestration.replace_function(p_function regprocedure, p_new_definition text) returns void
    language plpgsql volatile set search_path = ''
as $$
declare
    v_signature text := p_function::text;  -- schema and all, because the search path is empty
    v_original text := pg_get_functiondef(p_function);
begin
    execute p_new_definition;
    insert into orchestration.replaced_functions as r (signature, definition, replacement_body)
    values (v_signature, v_original, (select prosrc from pg_proc where oid = p_function))
    on conflict (signature) do update
    set definition = excluded.definition, replacement_body = excluded.replacement_body, replaced_at = clock_timestamp();
end
$$;

-- Fits the application's functions, as they are now, with their guards; says what it did. Safe to run again: after the
-- application has put a new version in place, it is fitted anew.
create function orchestration.adapt_functions() returns setof text
    language plpgsql volatile set search_path = ''
as $$
declare
    v_function record;
    v_definition text;
begin
    -- Broadcasting triggers: our relay tells of enrolled games.
    for v_function in
        select distinct p.oid::regprocedure as fn, p.prosrc, l.lanname
        from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_language l on l.oid = p.prolang
        where t.tgrelid in (to_regclass('public.games'), to_regclass('public.game_participants'),
                            to_regclass('public.submissions'), to_regclass('public.votes'))
          and not t.tgisinternal and p.proname ~ 'broadcast' and p.pronamespace <> 'orchestration'::regnamespace
          and p.prosrc !~ 'orchestration\.is_enrolled'
    loop
        if v_function.lanname <> 'plpgsql' then
            raise exception 'trigger function % is written in %, so enrolled games cannot be taken out of it',
                v_function.fn, v_function.lanname
                using hint = 'rewrite it in PL/pgSQL, or drop its triggers before installing';
        end if;
        v_definition := pg_get_functiondef(v_function.fn);
        perform orchestration.replace_function(v_function.fn, replace(v_definition, v_function.prosrc,
            orchestration.guarded_body(v_function.prosrc,
                -- Two branches, because each table has but one of the columns; this runs for every row.
                'if tg_table_name = ''games'' then '
                'if orchestration.is_enrolled(case when tg_op = ''DELETE'' then old.id else new.id end) then '
                'return case when tg_op = ''DELETE'' then old else new end; end if; '
                'elsif orchestration.is_enrolled(case when tg_op = ''DELETE'' then old.game_id else new.game_id end) then '
                'return case when tg_op = ''DELETE'' then old else new end; end if;')));
        return next format('%s: tells of legacy games only', v_function.fn);
    end loop;

    -- The list the legacy sweep works through.
    select p.oid::regprocedure as fn, p.prosrc, l.lanname, pg_get_functiondef(p.oid) as definition into v_function
    from pg_proc p join pg_language l on l.oid = p.prolang
    where p.pronamespace = 'public'::regnamespace and p.proname = 'find_expired_games' and p.pronargs = 1
      and p.prosrc !~ 'orchestration\.is_enrolled';
    if found then
        execute replace(v_function.definition, 'FUNCTION public.find_expired_games(',
                        'FUNCTION orchestration.legacy_find_expired_games(');
        perform orchestration.copy_execute_grants(
            v_function.fn, 'orchestration.legacy_find_expired_games(integer)'::regprocedure);
        perform orchestration.replace_function(v_function.fn, format(
            'create or replace function public.find_expired_games(%s) returns %s language plpgsql volatile%s as %L',
            pg_get_function_arguments(v_function.fn), pg_get_function_result(v_function.fn),
            (select case when p.prosecdef then ' security definer' else '' end
                    || coalesce(string_agg(' set ' || split_part(c, '=', 1) || ' to '
                                           || case when split_part(c, '=', 1) = 'search_path'
                                                   then substr(c, strpos(c, '=') + 1)
                                                   else quote_literal(substr(c, strpos(c, '=') + 1)) end, ''), '')
             from pg_proc p left join unnest(p.proconfig) c on true where p.oid = v_function.fn group by p.prosecdef),
            orchestration.filtered_list_body(v_function.prosrc, v_function.lanname)));
        return next format('%s: lists legacy games only', v_function.fn);
    end if;

    -- In-database sweeps, whose bodies are not ours: they run under an application_name that our triggers keep_*
    -- heed. (A setting of our own would be clearer; only a superuser may attach one to a function.)
    for v_function in
        select p.oid::regprocedure as fn
        from pg_proc p
        where p.pronamespace = 'public'::regnamespace and p.proname in ('monitor_game_timers_db', 'cleanup_expired_games')
          and not coalesce('application_name=orchestration.legacy_sweep' = any (p.proconfig), false)
    loop
        perform orchestration.replace_function(v_function.fn,
            format('alter function %s set application_name = ''orchestration.legacy_sweep''', v_function.fn));
        return next format('%s: moves legacy games only', v_function.fn);
    end loop;

    for v_function in
        select p.oid::regprocedure as fn, p.prosrc
        from pg_proc p join pg_language l on l.oid = p.prolang
        where p.pronamespace = 'public'::regnamespace and p.proname = 'transition_game_status' and p.pronargs = 2
          and l.lanname = 'plpgsql' and p.prosrc !~ 'orchestration\.is_enrolled'
    loop
        v_definition := pg_get_functiondef(v_function.fn);
        perform orchestration.replace_function(v_function.fn, replace(v_definition, v_function.prosrc,
            orchestration.guarded_body(v_function.prosrc,
                'if current_setting(''application_name'') = ''orchestration.legacy_sweep'' and orchestration.is_enrolled($1) '
                'then return false; end if;')));
        return next format('%s: refuses enrolled games to a legacy sweep', v_function.fn);
    end loop;
end
$$;

create function orchestration.copy_execute_grants(p_from regprocedure, p_to regprocedure) returns void
    language plpgsql volatile set search_path = ''
as $$
declare
    v_grantee text;
begin
    execute format('revoke all on function %s from public', p_to);
    for v_grantee in
        select case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
        from pg_proc p cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.oid = p_from and a.privilege_type = 'EXECUTE'
    loop
        execute format('grant execute on function %s to %s', p_to, v_grantee);
    end loop;
end
$$;

create function orchestration.restore_functions() returns setof text
    language plpgsql volatile set search_path = ''
as $$
declare
    v_row record;
begin
    for v_row in select r.* from orchestration.replaced_functions r order by r.signature loop
        if exists (select from pg_proc p where p.oid = to_regprocedure(v_row.signature)
                   and p.prosrc = v_row.replacement_body) then
            execute v_row.definition;
            return next v_row.signature || ': as it was';
        else
            return next v_row.signature || ': replaced by the application since, left alone';
        end if;
    end loop;
    delete from orchestration.replaced_functions;
    drop function if exists orchestration.legacy_find_expired_games(integer);
end
$$;

revoke all on all functions in schema orchestration from public;
grant execute on function orchestration.is_enrolled(uuid) to public;
select orchestration.adapt_functions();
