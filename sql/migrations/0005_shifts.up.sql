-- Shifts at work, the lanes they hold, the circuit they share.
create table orchestration.shifts (
    shift_id uuid primary key,
    kind text not null check (kind in ('timer', 'fanout')),
    version text not null,
    host text not null,
    pid integer not null,
    dagster_run_id text,
    started_at timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp(),
    relieved_by uuid,
    ended_at timestamptz,
    end_reason text,
    report jsonb not null default '{}'
) with (fillfactor = 50);
create index shifts_at_work_idx on orchestration.shifts (kind) where ended_at is null;
comment on column orchestration.shifts.relieved_by is 'The successor whose heartbeat allows this shift to leave';

create table orchestration.lanes (
    lane smallint primary key check (lane between 0 and 31),
    epoch bigint not null default 0,
    holder uuid,
    taken_at timestamptz
) with (fillfactor = 50);
comment on column orchestration.lanes.epoch is 'Rises with every taking; a statement of a former epoch changes nothing';
insert into orchestration.lanes (lane) select generate_series(0, 31);

create table orchestration.circuit (
    keyset text primary key default 'default',
    state text not null default 'closed' check (state in ('closed', 'open', 'half_open')),
    reason text,
    since timestamptz not null default clock_timestamp(),
    epoch bigint not null default 0,
    probe_holder uuid,
    probe_at timestamptz
) with (fillfactor = 50);
insert into orchestration.circuit (keyset) values ('default');

grant select, insert, update on orchestration.shifts to sketchy_timer, sketchy_relay;
grant select, update on orchestration.shifts to sketchy_operator;
grant select, update on orchestration.lanes, orchestration.circuit to sketchy_relay;
grant select on orchestration.lanes, orchestration.circuit to sketchy_timer, sketchy_operator, sketchy_gateway;
grant select on orchestration.shifts to sketchy_gateway;
