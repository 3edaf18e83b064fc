"""The record of all that was accepted: bounded in memory, in a file on request."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sketchy_orchestration.local.pubnub.config import StandInConfig, StandInError
from sketchy_orchestration.local.pubnub.message import Message

_FLUSH_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Accepted:
    """One accepted publish, fire or signal.

    Attributes:
        index: its place among all accepted, from 0; a gap after `Record.dropped` cannot be.
        fault: the fault that kept the publisher from hearing of it (a lost acknowledgement), or None.
    """

    index: int
    operation: str
    channel: str
    timetoken: str
    payload: str
    user_id: str | None
    meta: str | None
    custom_message_type: str | None
    stored: bool
    fault: str | None

    @property
    def message(self) -> Any:
        """The message, parsed."""
        return json.loads(self.payload)

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "operation": self.operation,
            "channel": self.channel,
            "timetoken": self.timetoken,
            "message": json.loads(self.payload),
            "uuid": self.user_id,
            "meta": None if self.meta is None else json.loads(self.meta),
            "custom_message_type": self.custom_message_type,
            "stored": self.stored,
            "fault": self.fault,
        }


class Record:
    """Everything accepted, in order; the oldest goes when a bound is reached."""

    def __init__(self, config: StandInConfig) -> None:
        self._config = config
        self._kept: deque[tuple[int, str, Message, bool, str | None]] = deque()
        self._bytes = 0
        self._next = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._file: IO[str] | None = None
        self._flush: asyncio.TimerHandle | None = None
        if config.record_file is not None:
            self._file = _open(config.record_file)

    @property
    def count(self) -> int:
        """How many were accepted since the start."""
        return self._next

    @property
    def dropped(self) -> int:
        """How many the memory no longer holds; the file, if there is one, does."""
        return self._next - len(self._kept)

    def add(self, operation: str, message: Message, fault: str | None) -> None:
        stored = message.stored
        self._kept.append((self._next, operation, message, stored, fault))
        self._next += 1
        self._bytes += message.size
        while len(self._kept) > self._config.record_messages or self._bytes > self._config.record_bytes:
            self._bytes -= self._kept.popleft()[2].size
        if self._file is not None:
            self._write(_accepted(*self._kept[-1]) if self._kept else None)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def since(self, index: int = 0, most: int | None = None) -> list[Accepted]:
        """Entries from `index` on that memory still holds, at most `most`."""
        skip = max(0, index - self.dropped)
        stop = None if most is None else skip + most
        return [_accepted(*entry) for entry in islice(self._kept, skip, stop)]

    async def wait_beyond(self, index: int, limit: float) -> None:
        """Return once more than `index` were accepted, or after `limit` seconds."""
        if self._next > index:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(limit):
                await waiter
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)

    def _write(self, entry: Accepted | None) -> None:
        if entry is None or self._file is None:
            return
        self._file.write(json.dumps(entry.as_json(), separators=(",", ":")) + "\n")
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        path = self._config.record_file
        if self._file is None or path is None:
            return
        self._file.flush()
        if self._file.tell() > self._config.record_file_bytes:
            self._file.close()
            path.replace(path.with_name(path.name + ".1"))
            self._file = _open(path)

    def close(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
        if self._file is not None:
            self._file.close()
            self._file = None


def _accepted(index: int, operation: str, message: Message, stored: bool, fault: str | None) -> Accepted:
    return Accepted(
        index=index,
        operation=operation,
        channel=message.channel,
        timetoken=str(message.timetoken),
        payload=message.payload.decode("utf-8"),
        user_id=message.publisher,
        meta=None if message.meta is None else message.meta.decode("utf-8"),
        custom_message_type=message.custom_type,
        stored=stored,
        fault=fault,
    )


def _open(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise StandInError(f"cannot write the record to {path}: {error.strerror}") from None
