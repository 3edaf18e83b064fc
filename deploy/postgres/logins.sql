-- Logins of the running parts, each a member of its one role, and Dagster's storage with a schema of its own.
-- After `sketchy migrate up`, as the role of DATABASE_URL:
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -v timer=… -v relay=… -v gateway=… -v operator=… -v dagster=… -f logins.sql
-- Each … is a password of its own: python3 -c "import secrets; print(secrets.token_urlsafe(24))"
\set QUIET on
begin;
create role timer_a login password :'timer' in role sketchy_timer;
create role relay_a login password :'relay' in role sketchy_relay;
create role gateway_a login password :'gateway' in role sketchy_gateway;
create role operator_a login password :'operator' in role sketchy_operator;
create role dagster_a login password :'dagster';
grant dagster_a to current_user;
create schema dagster authorization dagster_a;
alter role dagster_a in database :"DBNAME" set search_path = dagster;
-- Each part's own share of the server's connections (docs/gateway.md); one that leaks harms nobody else.
alter role timer_a connection limit 12;
alter role relay_a connection limit 12;
alter role gateway_a connection limit 12;
alter role operator_a connection limit 12;
alter role dagster_a connection limit 60;
commit;
