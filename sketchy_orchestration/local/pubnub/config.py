"""How one stand-in behaves: its keys, its bounds, what it records."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sketchy_orchestration.errors import SketchyError

_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")


class StandInError(SketchyError):
    """The stand-in was configured or used wrongly, or cannot start; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class StandInConfig:
    """Everything the stand-in can be told before it starts.

    Attributes:
        port: TCP port on 127.0.0.1; 0 takes any free one.
        secret_key: with one, signatures are checked and tokens granted; without, neither.
        enforce_access: refuse whatever lacks a token's permission or a valid signature. Needs secret_key.
        long_poll_seconds: how long a subscribe waits for a message; the SDKs give up after 310 s.
        buffer_messages: most messages one subscribe call may catch up on, over all its channels.
        buffer_seconds: age after which a message can no longer be caught up on through subscribe.
        log_messages, log_bytes: bound of everything kept for catching up and history, oldest dropped first.
        record_messages, record_bytes: bound of the record of accepted messages in memory.
        record_file: also append the record, one JSON object a line, to this file.
        record_file_bytes: beyond this the file is renamed to `<name>.1` and begun anew.
        store_by_default: whether a publish that does not say so is kept in history.
        presence_seconds: presence time-out of clients that do not send `heartbeat`.
        publish_rate: publishes a second beyond which 429 is answered; None for no limit, as the service.
        seed: of every random decision that faults make.
    """

    port: int = 0
    publish_key: str = "pub-c-local"
    subscribe_key: str = "sub-c-local"
    secret_key: str | None = None
    enforce_access: bool = False
    region: int = 1
    long_poll_seconds: float = 280.0
    buffer_messages: int = 100
    buffer_seconds: float = 1200.0
    log_messages: int = 50_000
    log_bytes: int = 32 * 1024 * 1024
    record_messages: int = 20_000
    record_bytes: int = 16 * 1024 * 1024
    record_file: Path | None = None
    record_file_bytes: int = 256 * 1024 * 1024
    store_by_default: bool = True
    presence_seconds: float = 300.0
    publish_rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises StandInError naming the first wrong value."""
        if not 0 <= self.port <= 65535:
            raise StandInError(f"port is {self.port}: must be 0 (any free one) to 65535")
        for name in ("publish_key", "subscribe_key"):
            if not _KEY.match(getattr(self, name)):
                raise StandInError(f"{name} must be 1 to 100 letters, digits, '-' or '_'")
        if self.secret_key is not None and not self.secret_key:
            raise StandInError("secret_key is empty: leave it out or give one")
        if self.enforce_access and self.secret_key is None:
            raise StandInError("enforce_access needs a secret_key: without one no token can be granted")
        for name in ("long_poll_seconds", "buffer_seconds", "presence_seconds"):
            if getattr(self, name) <= 0:
                raise StandInError(f"{name} is {getattr(self, name)}: must be more than 0 seconds")
        for name in ("buffer_messages", "log_messages", "log_bytes", "record_messages", "record_bytes"):
            if getattr(self, name) < 1:
                raise StandInError(f"{name} is {getattr(self, name)}: must be at least 1")
        if self.publish_rate is not None and self.publish_rate <= 0:
            raise StandInError(f"publish_rate is {self.publish_rate}: must be more than 0 a second")

    def __repr__(self) -> str:
        """Without the secret key."""
        return f"StandInConfig(port={self.port}, subscribe_key={self.subscribe_key!r})"
