"""What keeps a stopped shift from leaving is broken off: its statement, and if need be its session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

import psycopg
import structlog
from psycopg import Connection

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.realtime.lease import sever
from sketchy_orchestration.realtime.stop import Stop

PATIENCE = 0.25
"""Seconds that a statement may go on after a stop: an ordinary sweep ends by itself."""

CUT_OFF_AFTER = 0.6
"""Seconds after a stop when a session that nobody could cancel, its server being away, is cut off."""


class Closable(Protocol):
    """What is of no use to anybody when it comes too late."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)

_AGAIN = 0.05
_FOREVER = 3600.0

log = structlog.get_logger(__name__)


@contextmanager
def breaking_off(stopping: Stop, session: Callable[[], Connection[Row]]) -> Iterator[None]:
    """Within the block, a stop ends what the session is busy with: its statement fails."""
    left = Stop()
    watching = threading.Thread(target=_watch, args=(stopping, left, session), daemon=True)
    watching.start()
    try:
        yield
    finally:
        # Joined, so that no cancelling comes late and strikes what is said in parting.
        left.set()
        watching.join()
        left.close()


def _watch(stopping: Stop, left: Stop, session: Callable[[], Connection[Row]]) -> None:
    while not stopping.wait(_FOREVER, left.fileno()):
        if left.is_set():
            return
    asked = time.monotonic()
    left.wait(PATIENCE)
    while not left.is_set() and (remaining := asked + CUT_OFF_AFTER - time.monotonic()) > 0:
        with suppress(psycopg.Error):
            session().cancel_safe(timeout=remaining)
        left.wait(_AGAIN)
    if not left.is_set():
        log.warning("session cut off: a statement could not be cancelled")
        sever(session())


def unless_stopped(stopping: Stop, connect: Callable[[], T]) -> T | None:
    """The connection that `connect` makes; None when the stop came first, and nobody waits for it any more.

    Raises:
        Exception: what `connect` raises.
    """
    made: Future[T] = Future()
    answered = Stop()

    def work() -> None:
        try:
            made.set_result(connect())
        except BaseException as error:
            made.set_exception(error)
        answered.set()

    threading.Thread(target=work, daemon=True).start()
    while not stopping.wait(_FOREVER, answered.fileno()):
        if made.done():
            answered.close()
            return made.result()
    made.add_done_callback(_close)
    return None


def _close(made: Future[T]) -> None:
    if made.exception() is None:
        made.result().close()
