"""Dagster's runs as the local stack sees them: programs that no part is, and shifts at work in them."""

from __future__ import annotations

import signal
from collections.abc import Collection
from contextlib import suppress

import psutil
import psycopg

from sketchy_orchestration.database.connect import Address, connect_to
from sketchy_orchestration.database.status import shifts_at_work
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.local import processes, stack_dagster

_TERMINATE_SECONDS = 8.0
_SIGNAL_SECONDS = 3.0


def shifts_in_runs(database_url: str) -> set[str]:
    """The kinds of shift (timer, fanout) that are at work in a run of Dagster's; none when nobody can say."""
    try:
        with connect_to(Address.of_url(database_url), application_name="sketchy up") as connection:
            return {shift.kind for shift in shifts_at_work(connection) if shift.dagster_run_id is not None}
    except (SketchyError, psycopg.Error):
        return set()


def end_runs(mark: str, parts: Collection[int], webserver: str | None) -> None:
    """End every run of the stack: through Dagster where it answers, else by signals.

    A code server that is told to stop would wait for them.

    Args:
        parts: process ids that are no runs.
    """

    def gone() -> bool:
        return not _runs(mark, parts)

    if webserver is not None and stack_dagster.terminate_runs(webserver):
        # A run that is over has stored all it will, yet its interpreter may take seconds to clear up.
        processes.wait_until(
            lambda: gone() or not stack_dagster.unfinished_runs(webserver),
            seconds=_TERMINATE_SECONDS,
            pause=0.2,
        )
    for number in (signal.SIGTERM, signal.SIGKILL):
        for run in _runs(mark, parts):
            with suppress(psutil.Error):
                run.send_signal(number)
        processes.wait_until(gone, seconds=_SIGNAL_SECONDS, pause=0.1)


def _runs(mark: str, parts: Collection[int]) -> list[psutil.Process]:
    return [
        process
        for process in processes.marked(mark)
        if process.pid not in parts and not is_accessory(process)
    ]


def is_accessory(process: psutil.Process) -> bool:
    """Python's own companion of a process that starts others; it ends with that process."""
    with suppress(psutil.Error):
        return any("resource_tracker" in word for word in process.cmdline())
    return True
