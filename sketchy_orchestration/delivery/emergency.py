"""The emergency stop: everything stands still within a second, and the games are handed over.

It needs the database and nothing else: no Dagster, no shift that answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import Connection

from sketchy_orchestration.database import rollback as statements
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.database.monitoring import database_now
from sketchy_orchestration.database.rollback import RollbackError, Stop
from sketchy_orchestration.delivery.steps import Step, Steps
from sketchy_orchestration.settings import Settings

SWEEP_MAY_TAKE = 0.4
"""Seconds a sweep under way may keep the stop waiting; then it is broken off."""

QUIET_WITHIN = 5.0
"""Seconds in which relays give their lanes back; a lease dies by itself after 1.5 s."""

WRITERS_WITHIN = 2.0
"""Seconds for which transactions older than the release are waited for: one may have enrolled a game."""

_LOOK = 0.01
_BATCHES = 400

Tell = Callable[[Step], None]


def _quiet(_: Step) -> None:
    pass


def emergency_stop(
    settings: Settings,
    *,
    by: str,
    reason: str,
    release: bool | None = None,
    triggers_off: bool = False,
    dry_run: bool = False,
    tell: Tell = _quiet,
) -> Steps:
    """Stop every transition, every sequencing and every publish; safe to call again.

    Args:
        release: hand the enrolled games to the legacy handler, for good; None: if one is configured.
        triggers_off: also switch the work of our triggers off.
        dry_run: say what would be done and change nothing.
        tell: hears of each step as it ends.

    Raises:
        SketchyError: the database cannot be reached, or there is no reason.
    """
    if not reason.strip():
        raise RollbackError("an emergency stop needs a reason")
    handing_over = settings.legacy_handler is not None if release is None else release
    steps = Steps(tell)
    with _asking(settings) as connection:
        if dry_run:
            return _would(connection, steps, handing_over, triggers_off)
        stop = _switch_off(connection, steps, by, reason, triggers_off)
        _wait_for_statements(connection, steps)
        _wait_for_relays(connection, steps)
        if handing_over:
            _hand_over(connection, steps, by, reason)
        statements.note(connection, stop.stop_id, [*stop.steps, *(step.as_dict() for step in steps.done)])
    return steps


def lift_stop(settings: Settings, *, by: str, reason: str, tell: Tell = _quiet) -> Steps:
    """Let the system work again; what was released stays with the legacy handler.

    Raises:
        RollbackError: no stop stands, or what was released cannot be put in order yet.
    """
    steps = Steps(tell)
    with _asking(settings) as connection:
        stop = statements.standing(connection)
        if stop is None:
            raise RollbackError("no emergency stop stands")
        if stop.games_released:
            _put_in_order(connection, steps)
            if not steps.ok:
                raise RollbackError(f"the stop was not lifted: {steps.done[-1].found}; try again")
        statements.lift(connection, by=by, reason=reason)
        given = ", ".join(f"{name} {'on' if on else 'off'}" for name, on in sorted(stop.flags_before.items()))
        steps.did("flags given back", given)
        steps.did("shifts", "Dagster's supervision starts them again within seconds; or run `sketchy shift`")
    return steps


@contextmanager
def _asking(settings: Settings) -> Iterator[Connection[Row]]:
    try:
        with connect(
            settings,
            Role.operator,
            application_name="sketchy emergency stop",
            statement_timeout=30.0,
            lock_timeout=SWEEP_MAY_TAKE,
        ) as connection:
            yield connection
    except psycopg.Error as error:
        raise RollbackError(f"the database said: {' '.join(str(error).split())}") from None


def _would(connection: Connection[Row], steps: Steps, release: bool, triggers_off: bool) -> Steps:
    found = statements.would_stop(connection)
    on = [name for name, enabled in sorted(found.flags.items()) if enabled and name != "emergency_stop"]
    off = [name for name in on if name != "triggers" or triggers_off]
    steps.did("would switch off", ", ".join(off) or "nothing: all of it is off")
    steps.did("would end", f"{found.shifts} shifts; {found.in_flight} publishes are in flight")
    if release:
        steps.did("would release", f"{found.games} games, for good")
    else:
        steps.did("would keep", f"{found.games} games: they stand still until the stop is lifted")
    return steps


def _switch_off(connection: Connection[Row], steps: Steps, by: str, reason: str, triggers_off: bool) -> Stop:
    while True:
        try:
            stop = statements.stop(connection, by=by, reason=reason, triggers_off=triggers_off)
            break
        except psycopg.errors.LockNotAvailable:
            broken = statements.cancel_sweeps(connection)
            steps.did("sweep broken off", f"{broken} held the lock for longer than {SWEEP_MAY_TAKE:g} s")
    steps.did("timers and broadcasting off", f"stop {stop.stop_id}; {stop.shifts_ended} shifts told to leave")
    return stop


def _wait_for_statements(connection: Connection[Row], steps: Steps) -> None:
    # After the commit: a statement begun a moment before it has still seen the flags as they were.
    committed = database_now(connection)
    left: list[str] = []

    def ended() -> bool:
        left[:] = statements.still_committing(connection, committed)
        return not left

    ok = _until(ended, QUIET_WITHIN)
    found = "no statement begun before it is under way" if ok else f"still at work: {', '.join(left)}"
    steps.did("no more transitions", found, ok=ok)


def _wait_for_relays(connection: Connection[Row], steps: Steps) -> None:
    ok = _until(lambda: statements.lanes_held(connection) == 0, QUIET_WITHIN)
    found = "no relay holds a lane; what was in flight is noted as unknown"
    steps.did("no more publishes", found if ok else "a relay still holds lanes: end its process", ok=ok)


def _hand_over(connection: Connection[Row], steps: Steps, by: str, reason: str) -> None:
    released = statements.release(connection, by=by, reason=reason)
    steps.did(
        "games released", f"{released} games now belong to the legacy handler; none is enrolled any more"
    )
    horizon = statements.horizon(connection)
    _until(lambda: not statements.older_writers(connection, horizon), WRITERS_WITHIN)
    late = statements.release(connection, by=by, reason=reason)
    if late:
        steps.did("latecomers released", f"{late} games enrolled by transactions that were under way")
    _put_in_order(connection, steps)


def _put_in_order(connection: Connection[Row], steps: Steps) -> None:
    left = statements.forget_released(connection)
    for _ in range(_BATCHES):
        if not left:
            break
        left = statements.forget_released(connection)
        if left:
            time.sleep(_LOOK / 2)
    found = (
        f"{left} rows are locked by the application; the reconciler takes them" if left else "none is kept"
    )
    steps.did("our rows of released games", found, ok=not left)
    expired: list[int] = []

    def done() -> bool:
        number = statements.expire_released(connection)
        expired[:] = [] if number is None else [number]
        return number is not None

    ok = _until(done, QUIET_WITHIN)
    found = f"{expired[0]} events expired" if ok else "a relay still holds lanes"
    steps.did("waiting events of released games", found, ok=ok)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look until it holds, at most so long; whether it does."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOK)
    return True
