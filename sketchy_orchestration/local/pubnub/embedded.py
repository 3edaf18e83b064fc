"""A stand-in for tests and tools: in a thread of this process, ready when the `with` block begins."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from sketchy_orchestration.local.pubnub.config import StandInConfig, StandInError
from sketchy_orchestration.local.pubnub.faults import Fault, FaultKind
from sketchy_orchestration.local.pubnub.record import Accepted
from sketchy_orchestration.local.pubnub.server import HOST, StandIn

_START_SECONDS = 10.0
_CALL_SECONDS = 10.0

Result = TypeVar("Result")


class FaultSwitch:
    """Switches faults on and off while the stand-in runs; usable from any thread."""

    def __init__(self, call: Callable[[Callable[[StandIn], Any]], Any]) -> None:
        self._call = call

    def on(self, kind: FaultKind | str, **settings: Any) -> int:
        """Switch a fault on; returns its number. Settings are those of `Fault`.

        Raises:
            StandInError: there is no such fault, or a setting is wrong.
        """
        fault = Fault.from_json({"kind": str(kind), **settings})
        return int(self._call(lambda stand_in: stand_in.service.faults.on(fault)))

    def off(self, number: int | None = None) -> int:
        """Switch one fault off, or all; returns how many were on."""
        return int(self._call(lambda stand_in: stand_in.service.faults.off(number)))

    def struck(self) -> int:
        """How many requests the faults that are on have struck."""
        active = self._call(lambda stand_in: stand_in.service.faults.active())
        return sum(count for _, _, count in active)


class LocalPubNub:
    """A stand-in on 127.0.0.1 with a thread and an event loop of its own.

    Example:
        >>> with LocalPubNub() as pubnub:
        ...     config.origin, config.ssl = pubnub.origin, False

    Attributes:
        origin: "127.0.0.1:PORT", as the SDKs want it.
        faults: switches faults on and off.
    """

    def __init__(self, config: StandInConfig | None = None) -> None:
        self.config = config or StandInConfig()
        self.publish_key = self.config.publish_key
        self.subscribe_key = self.config.subscribe_key
        self.secret_key = self.config.secret_key
        self.faults = FaultSwitch(self._call)
        self.origin = ""
        self._stand_in: StandIn | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{self.origin}"

    def start(self) -> LocalPubNub:
        """Start and wait until it listens.

        Raises:
            StandInError: the port is taken, or it is running already.
        """
        if self._thread is not None:
            raise StandInError("this stand-in is running already")
        started = threading.Event()
        failure: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._run, args=(started, failure), name="local-pubnub", daemon=True
        )
        self._thread.start()
        if not started.wait(_START_SECONDS):
            raise StandInError(f"the stand-in did not start within {_START_SECONDS:.0f} s")
        if failure:
            self._thread.join()
            self._thread = None
            raise failure[0]
        return self

    def stop(self) -> None:
        """Stop; open long polls are cut. Does nothing when it does not run."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None
        self._stand_in = None

    def record(self, since: int = 0) -> list[Accepted]:
        """Everything accepted, in order, as far as memory still holds it."""
        entries: list[Accepted] = self._call(lambda stand_in: stand_in.service.record.since(since))
        return entries

    def stats(self) -> dict[str, Any]:
        """Counts since the start, and what is held now; the keys are those of `sketchy pubnub stats`."""
        counts: dict[str, Any] = self._call(lambda stand_in: stand_in.service.stats())
        return counts

    def accept_secret_keys(self, *secret_keys: str) -> None:
        """From now on these secret keys are valid and no other, as when one is made or revoked at PubNub."""
        self._call(lambda stand_in: stand_in.service.access.accept(*secret_keys))

    def _call(self, do: Callable[[StandIn], Result]) -> Result:
        stand_in, loop = self._stand_in, self._loop
        if stand_in is None or loop is None:
            raise StandInError("the stand-in does not run")

        async def run() -> Result:
            return do(stand_in)

        return asyncio.run_coroutine_threadsafe(run(), loop).result(_CALL_SECONDS)

    def _run(self, started: threading.Event, failure: list[BaseException]) -> None:
        async def serve() -> None:
            stand_in = StandIn(self.config)
            try:
                await stand_in.start()
            except BaseException as error:
                stand_in.service.close()
                failure.append(error)
                started.set()
                return
            self._stand_in = stand_in
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            self.origin = f"{HOST}:{stand_in.port}"
            started.set()
            try:
                await self._stop.wait()
            finally:
                await stand_in.stop()

        try:
            asyncio.run(serve())
        except BaseException as error:
            failure.append(error)
            started.set()

    def __enter__(self) -> LocalPubNub:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
