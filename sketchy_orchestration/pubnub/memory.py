"""A publisher without a network, whose failures are programmed: for tests and dry runs."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from sketchy_orchestration.domain import publishing
from sketchy_orchestration.domain.publishing import Breakage
from sketchy_orchestration.pubnub.publisher import Acceptance, check_sendable, failure


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that was taken."""

    channel: str
    message: Mapping[str, object]
    timetoken: int
    store: bool


@dataclass(slots=True)
class _Fault:
    kind: Literal["answer", "hang", "cut", "lost"]
    channel: str
    times: int | None
    status: int = 0
    body: object = None
    retry_after: float | None = None


class MemoryPublisher:
    """Accepts everything PubNub would, unless told otherwise.

    Faults are used up oldest first; each applies to channels that match its pattern (`*` and `?` as in file
    names) and `times` publishes (None: until `heal`).

    Attributes:
        accepted: every message taken, in order.
        attempts: publishes tried, accepted or not.
        latency: seconds each answer takes.
    """

    def __init__(self, *, latency: float = 0.0) -> None:
        self.accepted: list[Accepted] = []
        self.attempts = 0
        self.latency = latency
        self._faults: list[_Fault] = []
        self._closed = asyncio.Event()
        self._last_timetoken = 0

    def answer(
        self,
        status: int,
        body: object = None,
        *,
        retry_after: float | None = None,
        channel: str = "*",
        times: int | None = 1,
    ) -> None:
        """Answer with this status and body (decoded JSON, or text that is none)."""
        self._faults.append(_Fault("answer", channel, times, status, body, retry_after))

    def hang(self, *, channel: str = "*", times: int | None = 1) -> None:
        """Never answer."""
        self._faults.append(_Fault("hang", channel, times))

    def cut(self, *, channel: str = "*", times: int | None = 1) -> None:
        """Break the connection before the message arrives."""
        self._faults.append(_Fault("cut", channel, times))

    def lose_answer(self, *, channel: str = "*", times: int | None = 1) -> None:
        """Accept the message, then break the connection: the lost acknowledgement."""
        self._faults.append(_Fault("lost", channel, times))

    def heal(self) -> None:
        """No faults from now on."""
        self._faults.clear()

    async def publish(
        self,
        channel: str,
        message: Mapping[str, object],
        *,
        timeout: float,  # noqa: ASYNC109  # bounds each attempt, by contract
        store: bool = True,
    ) -> Acceptance:
        """See `Publisher.publish`."""
        check_sendable(channel, message)
        if self._closed.is_set():
            raise failure(publishing.of_breakage(Breakage.connection, "this publisher is closed"))
        self.attempts += 1
        fault = self._next_fault(channel)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.sleep(self.latency)
                return await self._exchange(channel, message, store, fault)
        except TimeoutError:
            raise failure(
                publishing.of_breakage(Breakage.timeout, f"no answer within {timeout:g} s")
            ) from None

    async def _exchange(
        self, channel: str, message: Mapping[str, object], store: bool, fault: _Fault | None
    ) -> Acceptance:
        if fault is None or fault.kind == "lost":
            self._last_timetoken = max(self._last_timetoken + 1, time.time_ns() // 100)
            taken = Accepted(channel, copy.deepcopy(message), self._last_timetoken, store)
            self.accepted.append(taken)
            if fault is None:
                return Acceptance(taken.timetoken)
        elif fault.kind == "answer":
            raise failure(publishing.of_answer(fault.status, fault.body, fault.retry_after))
        elif fault.kind == "hang":
            await self._closed.wait()
        raise failure(publishing.of_breakage(Breakage.connection, "connection lost"))

    def _next_fault(self, channel: str) -> _Fault | None:
        for fault in self._faults:
            if fnmatchcase(channel, fault.channel):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times == 0:
                        self._faults.remove(fault)
                return fault
        return None

    async def close(self) -> None:
        """See `Publisher.close`."""
        self._closed.set()
