-- Verdicts on an exact version, and what people vouch for.
create table orchestration.validations (
    validation_id bigint generated always as identity primary key,
    began_at timestamptz not null,
    ended_at timestamptz not null default clock_timestamp(),
    target text not null,
    suites text[] not null,
    package text not null,
    build text not null,
    migrations text not null,
    settings text not null,
    passed integer not null,
    total integer not null check (total >= passed),
    go boolean not null,
    why text not null,
    results jsonb not null,
    started_by text not null
);
comment on column orchestration.validations.go is 'Every suite was run and every step of it passed';
create index validations_version_idx on orchestration.validations (package, build, migrations, settings, ended_at);

create table orchestration.attestations (
    attestation_id bigint generated always as identity primary key,
    item text not null check (item ~ '^[a-z][a-z_]{0,62}$'),
    attested_by text not null,
    at timestamptz not null default clock_timestamp(),
    note text not null check (btrim(note) <> ''),
    expires_at timestamptz not null check (expires_at > at),
    withdrawn_at timestamptz
);
comment on table orchestration.attestations is 'What no program can check: who says so, when, until when';
create index attestations_item_idx on orchestration.attestations (item, at);

grant select on orchestration.validations, orchestration.attestations to sketchy_gateway;
grant select, insert on orchestration.validations, orchestration.attestations to sketchy_operator;
select orchestration.secure_tables();
