"""Virtual time: processes are generators that yield how many seconds they sleep; hosts die, pause, wake."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

Work = Generator[float, None, None]


@dataclass(eq=False, slots=True)
class Host:
    """What dies or is paused as one: a worker's process with all its threads and tasks."""

    name: str
    alive: bool = True
    paused_until: float = 0.0


@dataclass(eq=False, slots=True)
class Process:
    """One line of work; `turn` counts its wakes, so that one overtaken by a notification is not obeyed."""

    host: Host
    work: Work
    turn: int = 0
    done: bool = False


@dataclass(slots=True)
class Kernel:
    """The only clock; equal moments are served in the order in which they were asked for.

    Attributes:
        now: seconds since the beginning.
    """

    now: float = 0.0
    _asked: int = 0
    _heap: list[tuple[float, int, Process, int]] = field(default_factory=list)
    _calls: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def spawn(self, host: Host, work: Work) -> Process:
        """Begin at once."""
        process = Process(host, work)
        self._schedule(process, 0.0)
        return process

    def notify(self, process: Process) -> None:
        """Wake it now, whatever it sleeps for."""
        if not process.done:
            process.turn += 1
            self._schedule(process, 0.0)

    def call(self, after: float, what: Callable[[], None]) -> None:
        """Something that happens whoever lives."""
        self._asked += 1
        heapq.heappush(self._calls, (self.now + after, self._asked, what))

    def _schedule(self, process: Process, after: float) -> None:
        self._asked += 1
        heapq.heappush(self._heap, (self.now + max(0.0, after), self._asked, process, process.turn))

    def run(self, until: float, finished: Callable[[], bool] | None = None) -> None:
        """Until this moment, or until it is finished (asked about once a second)."""
        ask_at = self.now + 1.0
        while True:
            at = min(
                self._heap[0][0] if self._heap else float("inf"),
                self._calls[0][0] if self._calls else float("inf"),
            )
            if at > until:
                self.now = until
                return
            self.now = max(self.now, at)
            if finished is not None and self.now >= ask_at:
                ask_at = self.now + 1.0
                if finished():
                    return
            if self._calls and self._calls[0][0] <= at:
                heapq.heappop(self._calls)[2]()
            else:
                self._serve(*heapq.heappop(self._heap))

    def _serve(self, at: float, _: int, process: Process, turn: int) -> None:
        if process.done or turn != process.turn:
            return
        host = process.host
        if not host.alive:
            process.done = True
            process.work.close()
            return
        if host.paused_until > at:
            self._schedule(process, host.paused_until - at)
            return
        process.turn += 1
        try:
            self._schedule(process, next(process.work))
        except StopIteration:
            process.done = True
