"""A stop signal that a loop can wait for beside a socket."""

from __future__ import annotations

import os
import select
import threading


class Stop:
    """Set once, from any thread or signal handler; wakes every wait at once."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._reader, self._writer = os.pipe()
        self.reason = ""

    def set(self, reason: str = "stopped") -> None:
        if not self._event.is_set():
            self.reason = reason
            self._event.set()
            os.write(self._writer, b"\0")

    def is_set(self) -> bool:
        return self._event.is_set()

    def fileno(self) -> int:
        """Readable once the stop is set, and from then on."""
        return self._reader

    def wait(self, seconds: float, *descriptors: int) -> bool:
        """Wait until the stop is set, a descriptor is readable, or time is up; True when stopped."""
        if not self.is_set() and seconds > 0:
            select.select([self._reader, *descriptors], [], [], seconds)
        return self.is_set()

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)
