"""A relay's way to the database: one lease session, one statement at a time, cut off for a while."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from sketchy_orchestration.realtime.lease import LeaseTimes
from tests.simulation.database import Database, Session, UnavailableError
from tests.simulation.kernel import Kernel

T = TypeVar("T")

TIMES = LeaseTimes()


class Line:
    """What `Lease` is to the real relay.

    Attributes:
        answered_at: when the last statement was sent that was answered.
    """

    def __init__(self, kernel: Kernel, database: Database) -> None:
        self._kernel, self._database = kernel, database
        self.session: Session | None = None
        self.answered_at = -1e9
        self._cut_off_until = 0.0
        self._deaf = False
        self._hangs = False

    def cut_off(self, seconds: float, *, deaf: bool) -> None:
        """For so long; deaf: what is asked arrives, and its answer does not."""
        self._cut_off_until, self._deaf = self._kernel.now + seconds, deaf

    def reaches(self) -> bool:
        """Whether the database can be asked now."""
        return self._database.up and self._cut_off_until <= self._kernel.now

    def may_send(self) -> bool:
        """Whether an attempt may start: the session can be nobody else's yet."""
        return self._kernel.now - self.answered_at <= TIMES.send_within

    def connect(self) -> None:
        """A session, where there is none and the database is there."""
        if self.session is None and self.reaches():
            self.session = self._database.session()

    def run(self, statement: Callable[[Session], T]) -> Generator[float, None, T]:
        """A statement on the session; an answer is waited for only so long.

        Raises:
            UnavailableError: there was none, or the session is gone.
        """
        while self._hangs:
            yield 0.02
        session, sent_at = self.session, self._kernel.now
        if session is None:
            raise UnavailableError
        if self._cut_off_until > sent_at:
            arrived = [statement(session)] if self._deaf else []
            yield from self._hang(sent_at + TIMES.answer)
            if self._cut_off_until > self._kernel.now or self.session is not session:
                raise UnavailableError
            # What was lost on the way is sent again by the network, once there is one.
            answer = arrived[0] if arrived else statement(session)
        else:
            answer = statement(session)
        self.answered_at = sent_at
        return answer

    def _hang(self, until: float) -> Generator[float, None, None]:
        self._hangs = True
        while (left := min(self._cut_off_until, until) - self._kernel.now) > 0:
            yield left + 1e-6
        self._hangs = False
