"""The lease session: it holds the lanes, and dies with its holder or with its holder's silence."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import psycopg
import structlog
from psycopg import Connection

from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.relay import Session

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds, each clearly below the next.

    Attributes:
        ping: between statements on the session, at most.
        send_within: after sending the last answered statement, in which attempts may start.
        idle: of silence, after which the server ends the session and frees its lanes.
        answer: for which an answer is waited; then the session is given up as lost.
    """

    ping: float = 0.25
    send_within: float = 1.0
    idle: float = 1.5
    answer: float = 5.0

    def __post_init__(self) -> None:
        if (
            not 0 < 2 * self.ping <= self.send_within
            or not self.send_within * 1.2 <= self.idle <= self.answer
        ):
            raise ValueError(f"{self}: ping, send_within, idle, answer must each be clearly below the next")


def sever(session: Session | Connection[Row]) -> None:
    """Cut a session off at once: whoever waits on it fails, the server frees what it holds."""
    # Not closed here: a descriptor that others still wait for must not be given to somebody else.
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(session.fileno())) as cut:
        cut.shutdown(socket.SHUT_RDWR)


class LeaseLostError(Exception):
    """The session is gone or may be: nothing may be sent or written for its lanes any more."""


class Lease:
    """One session, one statement at a time; each one that is answered is a ping.

    Attributes:
        epochs: the lanes held, each with its epoch.
    """

    def __init__(self, session: Session, times: LeaseTimes) -> None:
        self.epochs: dict[int, int] = {}
        self.times = times
        self._session = session
        self._turn = asyncio.Lock()
        self._alive_at = time.monotonic()
        self._lost: str | None = None

    @classmethod
    async def begin(cls, session: Session, times: LeaseTimes) -> Lease:
        """Make a session a lease that holds no lanes yet."""
        await statements.enter_lease(session, idle=times.idle)
        return cls(session, times)

    def may_send(self) -> bool:
        """Whether an attempt may start now."""
        return self._lost is None and time.monotonic() - self._alive_at <= self.times.send_within

    def epochs_of(self, lanes: Iterable[int]) -> dict[int, int]:
        """The epochs of lanes that must be held.

        Raises:
            LeaseLostError: one is not.
        """
        try:
            return {lane: self.epochs[lane] for lane in lanes}
        except KeyError as missing:
            raise LeaseLostError(self._lost or f"lane {missing} is not held") from None

    def silence(self) -> float:
        """Seconds since the last answered statement was sent."""
        return time.monotonic() - self._alive_at

    async def run(self, statement: Callable[[Session], Awaitable[T]]) -> T:
        """Run a statement on the session.

        Raises:
            LeaseLostError: it failed, or was not answered in time; the lanes are no longer ours.
        """
        async with self._turn:
            if self._lost is not None:
                raise LeaseLostError(self._lost)
            sent = time.monotonic()
            task = asyncio.ensure_future(statement(self._session))
            try:
                done, _ = await asyncio.wait([task], timeout=self.times.answer)
            except asyncio.CancelledError:
                # What the statement did is not known: whoever goes on with this session could not tell.
                self.lose("a statement was interrupted")
                await _end(task)
                raise
            if not done:
                self.lose(f"no answer from the database for {self.times.answer:g} s")
                await _end(task)
                raise LeaseLostError(self._lost)
            try:
                answer = task.result()
            except psycopg.Error as error:
                self.lose(" ".join(str(error).split()))
                raise LeaseLostError(self._lost) from error
            self._alive_at = sent
            return answer

    async def ping(self) -> None:
        """Say that we are there, if nothing else did lately."""
        if self.silence() >= self.times.ping:
            await self.run(lambda session: statements.try_lanes(session, []))

    def lose(self, why: str) -> None:
        """Give the session up at once: its lanes are free as soon as the server notices."""
        if self._lost is None:
            self._lost = why
            self.epochs.clear()
            sever(self._session)

    @property
    def lost(self) -> str | None:
        """Why it was lost; None while it is not."""
        return self._lost


async def _end(task: asyncio.Future[T]) -> None:
    """Wait for a statement on a severed session to fail."""
    await asyncio.wait([task], timeout=0.2)
    task.cancel()
    await asyncio.wait([task], timeout=1.0)
    if task.done() and not task.cancelled():
        task.exception()
