"""A time limit for many things at once: one timer for all, where asyncio.timeout makes one for each."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Limited:
    """Something that must end by `deadline` (the event loop's time); cancelled when it does not.

    Attributes:
        expired: it was cancelled for that reason.
    """

    deadline: float
    task: asyncio.Task[object] | None
    cancelling: int
    expired: bool = False

    def is_why(self) -> bool:
        """Whether the cancellation just caught is this limit's and nobody else's; then it is over."""
        task, self.task = self.task, None
        return self.expired and task is not None and task.uncancel() <= self.cancelling

    def end(self) -> None:
        """It has ended by itself."""
        task, self.task = self.task, None
        if self.expired and task is not None:
            task.uncancel()


@dataclass(slots=True)
class _Queue:
    waiting: deque[Limited] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None


class TimeLimits:
    """For tasks of one event loop. Those with the same limit end in the order they began: a queue is enough.

    Example:
        limited = limits.begin(10)
        try:
            await something
        except asyncio.CancelledError:
            if limited.is_why():
                raise TimeoutError from None
            raise
        finally:
            limited.end()
    """

    def __init__(self) -> None:
        self._queues: dict[float, _Queue] = {}

    def begin(self, seconds: float) -> Limited:
        """From now on the current task may take so long."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit is for a task")
        loop = task.get_loop()
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = _Queue()
        waiting = queue.waiting
        while waiting and waiting[0].task is None:
            waiting.popleft()
        limited = Limited(loop.time() + seconds, task, task.cancelling())
        waiting.append(limited)
        if queue.timer is None:
            queue.timer = loop.call_at(limited.deadline, self._expire, queue, loop)
        return limited

    def _expire(self, queue: _Queue, loop: asyncio.AbstractEventLoop) -> None:
        now, waiting = loop.time(), queue.waiting
        while waiting and (waiting[0].task is None or waiting[0].deadline <= now):
            first = waiting.popleft()
            if first.task is not None:
                first.expired = True
                first.task.cancel()
        queue.timer = loop.call_at(waiting[0].deadline, self._expire, queue, loop) if waiting else None

    def close(self) -> None:
        """Nothing is limited any more."""
        for queue in self._queues.values():
            if queue.timer is not None:
                queue.timer.cancel()
        self._queues.clear()
