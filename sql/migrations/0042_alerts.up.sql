-- Alerts of the product itself: their state, and who was told when.
create table orchestration.alerts (
    id bigint generated always as identity primary key,
    rule text not null,
    label text not null default '',
    severity text not null check (severity in ('info', 'warning', 'critical')),
    state text not null check (state in ('pending', 'firing', 'resolved')),
    value double precision not null,
    since timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp(),
    fired_at timestamptz,
    told_at timestamptz,
    resolved_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text,
    acknowledged_why text,
    escalated_at timestamptz,
    check ((state = 'resolved') = (resolved_at is not null)),
    check (state = 'pending' or fired_at is not null),
    check ((acknowledged_at is null) = (acknowledged_by is null))
);
create unique index alerts_open_idx on orchestration.alerts (rule, label) where resolved_at is null;

create table orchestration.alert_messages (
    id bigint generated always as identity primary key,
    alert_id bigint references orchestration.alerts on delete cascade,
    kind text not null check (kind in ('firing', 'repeated', 'escalated', 'resolved', 'test', 'rollout')),
    channel text not null,
    title text not null,
    body text not null,
    written_at timestamptz not null default clock_timestamp(),
    try_at timestamptz not null default clock_timestamp(),
    attempts integer not null default 0,
    delivered_at timestamptz,
    given_up_at timestamptz,
    error text
);
comment on column orchestration.alert_messages.channel is 'The name of a channel; its address is a setting and never here';
create index alert_messages_waiting_idx on orchestration.alert_messages (try_at)
    where delivered_at is null and given_up_at is null;
create index alert_messages_alert_idx on orchestration.alert_messages (alert_id);

grant select, insert, update, delete on orchestration.alerts, orchestration.alert_messages to sketchy_operator;
grant select on orchestration.alerts to sketchy_gateway;
select orchestration.secure_tables();
