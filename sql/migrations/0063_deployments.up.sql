-- A deployment, step by step, so that one that was killed is resumed or rolled back.
create table orchestration.deployments (
    deployment_id bigint generated always as identity primary key,
    began_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    state text not null default 'running'
        check (state in ('running', 'rolling_back', 'succeeded', 'rolled_back', 'failed')),
    package text not null,
    build text not null,
    migrations text not null,
    settings text not null,
    label text not null,
    config jsonb not null,
    kept jsonb not null default '{}',
    started_by text not null,
    reason text not null,
    why text,
    check ((ended_at is null) = (state in ('running', 'rolling_back')))
);
comment on column orchestration.deployments.kept is 'What steps need of one another and what undoing them gives back';
create unique index deployments_running_idx on orchestration.deployments ((true)) where ended_at is null;

create table orchestration.deployment_steps (
    deployment_id bigint not null references orchestration.deployments,
    place integer not null,
    name text not null,
    state text not null check (state in ('doing', 'done', 'failed', 'undoing', 'undone', 'not_undone')),
    began_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    found text not null default '',
    primary key (deployment_id, place)
);

grant select on orchestration.deployments, orchestration.deployment_steps to sketchy_gateway;
grant select, insert, update on orchestration.deployments, orchestration.deployment_steps to sketchy_operator;
select orchestration.secure_tables();
