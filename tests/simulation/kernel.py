"""Virtual time: processes are generators that yield how many seconds they sleep; hosts die, pause, wake."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

Work = Generator[float, None, None]

UNTIL_NOTIFIED = float("inf")
"""What a process yields that has nothing to do before somebody says so."""


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
    _heap: list[tuple[float, int, Process | Callable[[], None], int]] = field(default_factory=list)

    def spawn(self, host: Host, work: Work) -> Process:
        """Begin at once."""
        process = Process(host, work)
        self._schedule(process, 0.0)
        return process

    def notify(self, process: Process, after: float = 0.0) -> None:
        """Wake it so much later, whatever it sleeps for."""
        if not process.done:
            process.turn += 1
            self._schedule(process, after)

    def call(self, after: float, what: Callable[[], None]) -> None:
        """Something that happens whoever lives."""
        self._asked += 1
        heapq.heappush(self._heap, (self.now + after, self._asked, what, 0))

    def _schedule(self, process: Process, after: float) -> None:
        self._asked += 1
        at = self.now + after if after > 0.0 else self.now
        heapq.heappush(self._heap, (at, self._asked, process, process.turn))

    def run(self, until: float, finished: Callable[[], bool] | None = None) -> None:
        """Until this moment, or until it is finished (asked about once a second)."""
        heap, ask_at = self._heap, self.now + 1.0
        while heap and heap[0][0] <= until:
            at = heap[0][0]
            if at > self.now:
                self.now = at
                if finished is not None and at >= ask_at:
                    ask_at = at + 1.0
                    if finished():
                        return
            _, _, what, turn = heapq.heappop(heap)
            if not isinstance(what, Process):
                what()
            elif turn == what.turn and not what.done:
                self._serve(at, what)
        self.now = until

    def _serve(self, at: float, process: Process) -> None:
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
            after = next(process.work)
        except StopIteration:
            process.done = True
            return
        if after != UNTIL_NOTIFIED:
            self._schedule(process, after)
