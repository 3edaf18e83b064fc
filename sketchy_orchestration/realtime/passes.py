"""One bounded pass of each kind, for the jobs and commands that run by hand or as a backstop."""

from __future__ import annotations

import time

import psycopg

from sketchy_orchestration.database import timer
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.realtime.one_by_one import LOCK_TIMEOUT, SWEEP_TIMEOUT, sweep_after_time_out
from sketchy_orchestration.settings import Settings

MOST_SWEEPS = 20
"""A pass ends after so many sweeps, even when more is due: the next pass goes on."""


def sweep_pass(settings: Settings) -> dict[str, float]:
    """Sweep until nothing is due; what was done, by name.

    Raises:
        SketchyError: the database cannot be reached, or lacks our schema or role.
        psycopg.errors.LockNotAvailable: somebody holds a whole table; no game's fault, try again.
    """
    began = time.monotonic()
    numbers = {"sweeps": 0.0, "transitions": 0.0, "extended": 0.0, "set_aside": 0.0, "locked": 0.0}
    lateness_max = 0.0
    with connect(
        settings,
        Role.timer,
        application_name="sketchy timer sweep",
        statement_timeout=SWEEP_TIMEOUT,
        lock_timeout=LOCK_TIMEOUT,
    ) as connection:
        for _ in range(MOST_SWEEPS):
            try:
                swept = timer.sweep(connection, limit=500, look=not numbers["sweeps"])
            except psycopg.errors.QueryCanceled:
                swept = sweep_after_time_out(connection)
            numbers["sweeps"] += 1
            numbers["transitions"] += swept.moved
            numbers["extended"] += swept.extended
            numbers["set_aside"] += swept.set_aside
            numbers["locked"] = swept.locked
            lateness_max = max([lateness_max, *swept.lateness_ms])
            if swept.switched_off or swept.moved + swept.extended + swept.set_aside == 0:
                break
    return {
        **numbers,
        "switched_off": float(swept.switched_off),
        "lateness_max_ms": round(lateness_max, 3),
        "took_ms": round((time.monotonic() - began) * 1000, 3),
    }


def fanout_pass(settings: Settings) -> dict[str, float]:
    """Relay what waits in lanes that no shift holds; what was done, by name.

    Raises:
        SketchyError: no keyset, or the database cannot be reached, or lacks our schema or role.
    """
    from sketchy_orchestration.realtime import fanout_shift

    return fanout_shift.fanout_pass(settings)
