"""Jobs: each bounded, safe to launch at any time, and with `dry_run: true` in its config without effect."""

import dagster as dg

from sketchy_orchestration.defs.maintenance import ops

OWNER_TAGS = {"owner": "operations", "sketchy/role": "operator", "dagster/max_retries": "0"}


@dg.job(tags=OWNER_TAGS)
def partitions_ahead() -> None:
    """Makes the days ahead, and takes away those whose events have all been settled.

    Launch it when `partitions` is not healthy. A day in which events still wait stays; the report says so.
    """
    ops.keep_partitions()


@dg.job(tags=OWNER_TAGS)
def housekeeping() -> None:
    """Removes what is old: traces of games, minutes, Dagster's runs and ticks; looks at the keys' age.

    It runs every night by itself; launch it when storage has grown.
    """
    ops.forget_finished_games()
    ops.forget_old_rows()
    ops.clean_dagster()
    ops.look_at_key_ages()


@dg.job(tags=OWNER_TAGS)
def reconcile() -> None:
    """Repairs what triggers could not do: live_games against games, the outbox against players' deeds.

    Launch it when `trigger_failures_open` is above 0. With `dry_run` it only says what it would repair.
    """
    ops.reconcile_games()


JOBS = [partitions_ahead, housekeeping, reconcile]
