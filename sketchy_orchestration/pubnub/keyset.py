"""Where PubNub is and with which keys it is spoken to; and that no key ever reaches a log."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import quote

from pydantic import SecretStr

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

DEFAULT_ORIGIN = "ps.pndsn.com"

# A signed URL can be sent again by whoever reads it; a token is a key of its own.
_SIGNED = re.compile(r"\b((?:signature|auth|token)=)[^&\s'\"]+")


class KeysetError(SketchyError):
    """PubNub's keys are missing or cannot be keys; the message names the setting."""


@dataclass(frozen=True, slots=True)
class Keyset:
    """One PubNub keyset and how it is reached.

    Attributes:
        origin: host[:port]; without scheme.
        ssl: TLS; the local server has none.
        secret_key: signs requests; None sends them unsigned.
    """

    publish_key: SecretStr
    subscribe_key: SecretStr
    secret_key: SecretStr | None = None
    origin: str = DEFAULT_ORIGIN
    ssl: bool = True
    _secrets: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, key in (
            ("PUBNUB_PUBLISH_KEY", self.publish_key),
            ("PUBNUB_SUBSCRIBE_KEY", self.subscribe_key),
        ):
            if not key.get_secret_value().strip():
                raise KeysetError(f"{name} is empty: set it to the key of your PubNub keyset")
        if not self.origin or "/" in self.origin:
            raise KeysetError(
                f"PUBNUB_ORIGIN is {self.origin!r}: it must be host or host:port, without scheme"
            )
        keys = [
            key.get_secret_value() for key in (self.publish_key, self.subscribe_key, self.secret_key) if key
        ]
        object.__setattr__(self, "_secrets", (*keys, *(quote(key, safe="") for key in keys)))

    @classmethod
    def of(cls, settings: Settings) -> Keyset:
        """The keyset of the settings.

        Raises:
            KeysetError: a key is missing or cannot be one; the message names the setting.
        """
        missing = [
            name
            for name, key in (
                ("PUBNUB_PUBLISH_KEY", settings.pubnub_publish_key),
                ("PUBNUB_SUBSCRIBE_KEY", settings.pubnub_subscribe_key),
            )
            if key is None
        ]
        if missing or settings.pubnub_publish_key is None or settings.pubnub_subscribe_key is None:
            raise KeysetError(
                f"{' and '.join(missing)} not set: events cannot be published without",
                hint='set the keys of your PubNub keyset, or join the local stack with eval "$(sketchy env)"',
            )
        return cls(
            settings.pubnub_publish_key,
            settings.pubnub_subscribe_key,
            settings.pubnub_secret_key,
            origin=settings.pubnub_origin or DEFAULT_ORIGIN,
            ssl=settings.pubnub_ssl,
        )

    def redact(self, text: str) -> str:
        """The text without this keyset's keys, and without what was signed or granted with them."""
        return _redacted(text, self._secrets)


def _redacted(text: str, secrets: Collection[str]) -> str:
    # The longest first: a short one inside it would leave the rest of it to be read.
    longest_first = sorted(secrets, key=len, reverse=True)
    return _SIGNED.sub(r"\1***", re.sub("|".join(map(re.escape, longest_first)), "***", text))


class _KeyFilter(logging.Filter):
    """Lets through warnings and worse, without keys: below that the SDK logs whole URLs and signatures."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return False
        record.msg, record.args = _redacted(record.getMessage(), self.secrets.copy()), None
        # A traceback quotes exceptions, and theirs quote URLs.
        record.exc_info = record.exc_text = None
        return True


_filter = _KeyFilter()
# httpx logs each URL at INFO; the SDK's parts use the others.
_LOGGERS = ("pubnub", "pubnub.subscribe", "pubnub.presence", "httpx", "httpcore")


def keep_out_of_logs(keyset: Keyset) -> None:
    """From now on the SDK's loggers, whatever their level, cannot show this keyset's keys or any URL."""
    _filter.secrets.update(keyset._secrets)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if _filter not in logger.filters:
            logger.addFilter(_filter)
