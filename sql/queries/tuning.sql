-- name: peaks
-- The busiest minute and the busiest five of each metric; hours that were folded count as even minutes.
with counted as (
    select m.metric, m.minute, sum(m.count)::float8 / max(m.minutes) as n
    from orchestration.metric_minutes m
    where m.minute >= %(since)s and m.metric in ('publishes', 'transitions', 'failed_attempts', 'games_started')
    group by m.metric, m.minute
), windows as (
    select c.metric, c.n, sum(c.n) over (partition by c.metric order by c.minute
                                         range between interval '4 minutes' preceding and current row) as five
    from counted c
)
select w.metric, max(w.n), max(w.five), sum(w.n) from windows w group by w.metric

-- name: span
-- How many hours the minutes since then cover.
select coalesce(extract(epoch from max(m.minute) - min(m.minute)) / 3600, 0)::float8
from orchestration.metric_minutes m where m.minute >= %(since)s
