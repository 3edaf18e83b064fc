-- Events of the load test: they belong to no game.

-- name: write
select count(*)
from generate_series(1, %(count)s::integer) n
cross join lateral orchestration.accept_event(
    null, 'load-' || n %% %(subjects)s::integer, 'test', 'system', jsonb_build_object('load', n), %(request_id)s) e

-- name: outcome
-- Of a run's events by the request ids that begin with its name: what became of them, and how soon.
with taken as materialized (
    select c.outcome, o.request_id, extract(epoch from c.at - o.occurred_at)::float8 * 1000 as ms
    from orchestration.outbox o
    join orchestration.outcomes c on c.outbox_id = o.id and c.occurred_at = o.occurred_at
    where o.request_id like %(run)s and o.occurred_at > now() - interval '2 hours'
), delivered as (
    select t.request_id, t.ms from taken t where t.outcome = 'delivered'
)
select (select count(*) from delivered), (select count(*) from taken where outcome = 'expired'),
       (select count(*) from taken where outcome = 'dead'),
       coalesce((select percentile_disc(0.5) within group (order by ms) from delivered), 0)::float8,
       coalesce((select percentile_disc(0.99) within group (order by ms) from delivered), 0)::float8,
       coalesce((select max(ms) from delivered), 0)::float8,
       coalesce((select max(ms) from delivered where request_id like '%%-burst-%%'), 0)::float8
