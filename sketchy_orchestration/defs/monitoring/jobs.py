"""Jobs that report: weekly, quarterly, twice a year, and whenever somebody wants to know."""

import dagster as dg

from sketchy_orchestration.defs.monitoring import ops

_TAGS = {"owner": "operations", "sketchy/role": "operator", "dagster/max_retries": "0"}


@dg.job(tags=_TAGS)
def performance_review() -> None:
    """Writes a Markdown report of service levels, budgets, players' measures and storage into its run.

    Launch it before a meeting or a rollout; every Monday it runs by itself.
    """
    ops.review_performance()


@dg.job(tags=_TAGS)
def load_test() -> None:
    """Plays games through the whole system, with events and bursts beside them: was every promise kept?

    The defaults are 50 games, 100 events a second and a burst of 200. For ten or a hundred times
    as much raise `games`, `rate` and `events_per_second`. It fails when an
    event waits too long, expires or is given up, or when the machine wrote less than 95 % of the rate.
    The events beside the games are of type test: they belong to no game and have no order. Order is
    what the players look at.

    It runs by itself once a quarter, in staging; in production it refuses.
    """
    ops.test_under_load()


@dg.job(tags=_TAGS)
def recovery_drill() -> None:
    """Dumps game and orchestration data, restores them into a scratch Postgres, verifies, times, reports.

    It runs by itself in January and July. A failed run means that the backup could not be trusted.
    """
    ops.drill_recovery()


JOBS = [performance_review, load_test, recovery_drill]
