-- name: open
select a.rule, a.label, a.severity, a.state, a.value, a.since, a.seen_at, a.fired_at, a.told_at, a.resolved_at,
       a.acknowledged_at, a.escalated_at, a.id
from orchestration.alerts a where a.resolved_at is null

-- name: told
select m.alert_id, array_agg(distinct m.channel) as channels
from orchestration.alert_messages m
where m.alert_id = any (%(ids)s) and m.kind in ('firing', 'escalated', 'repeated')
group by m.alert_id

-- name: begin
insert into orchestration.alerts (rule, label, severity, state, value, since, seen_at, fired_at, told_at)
values (%(rule)s, %(label)s, %(severity)s, %(state)s, %(value)s, %(since)s, %(seen_at)s, %(fired_at)s, %(told_at)s)
returning id

-- name: change
update orchestration.alerts
set state = %(state)s, value = %(value)s, seen_at = %(seen_at)s, fired_at = %(fired_at)s, told_at = %(told_at)s,
    resolved_at = %(resolved_at)s, escalated_at = %(escalated_at)s
where id = %(id)s

-- name: forget
delete from orchestration.alerts where id = %(id)s and state = 'pending'

-- name: write_message
insert into orchestration.alert_messages (alert_id, kind, channel, title, body)
values (%(alert_id)s, %(kind)s, %(channel)s, %(title)s, %(body)s)
returning id

-- name: due_messages
select m.id, m.alert_id, m.kind, m.channel, m.title, m.body, m.attempts, m.written_at
from orchestration.alert_messages m
where m.delivered_at is null and m.given_up_at is null and m.try_at <= clock_timestamp()
order by m.id
limit 50

-- name: delivered
update orchestration.alert_messages
set attempts = attempts + 1, delivered_at = clock_timestamp(), error = null where id = %(id)s

-- name: not_delivered
update orchestration.alert_messages
set attempts = attempts + 1, error = %(error)s, try_at = clock_timestamp() + %(again)s::interval,
    given_up_at = case when %(give_up)s then clock_timestamp() end
where id = %(id)s

-- name: undelivered
select m.channel, count(*)::float8
from orchestration.alert_messages m
where m.delivered_at is null and m.given_up_at is null and m.attempts > 0
group by m.channel

-- name: acknowledge
update orchestration.alerts
set acknowledged_at = clock_timestamp(), acknowledged_by = %(by)s, acknowledged_why = %(why)s
where resolved_at is null and acknowledged_at is null and (id = %(id)s or rule = %(rule)s)
returning id

-- name: listed
select a.id, a.rule, a.label, a.severity, a.state, a.value, a.since, a.fired_at, a.resolved_at, a.acknowledged_by,
       a.acknowledged_why,
       (select string_agg(m.kind || ' ' || m.channel || ' ' || to_char(coalesce(m.delivered_at, m.written_at), 'HH24:MI:SS')
                          || case when m.delivered_at is null then ' (not delivered: ' || coalesce(m.error, 'waits') || ')'
                                  else '' end, E'\n' order by m.id)
        from orchestration.alert_messages m where m.alert_id = a.id) as told
from orchestration.alerts a
where %(all)s or a.resolved_at is null
order by a.id desc
limit %(limit)s
