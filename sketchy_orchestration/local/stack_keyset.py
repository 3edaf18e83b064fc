"""Which PubNub the stack speaks to: the keyset of the settings, or the local server."""

from __future__ import annotations

from pydantic import SecretStr

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

LOCAL_KEYS = ("pub-c-local", "sub-c-local")
"""Publish and subscribe key of the local server; nothing secret."""


class HalfAKeysetError(SketchyError):
    """Some settings of a PubNub keyset are there and others are missing."""


def keyset_environment(settings: Settings) -> dict[str, str] | None:
    """The settings of a real keyset by name; None when the local server is meant.

    Raises:
        HalfAKeysetError: naming what is missing.
    """
    keys = {
        "PUBNUB_PUBLISH_KEY": settings.pubnub_publish_key,
        "PUBNUB_SUBSCRIBE_KEY": settings.pubnub_subscribe_key,
    }
    missing = [name for name, key in keys.items() if key is None]
    if len(missing) == 1 or (missing and settings.pubnub_origin is not None):
        raise HalfAKeysetError(
            f"{' and '.join(missing)} missing: set PUBNUB_PUBLISH_KEY and PUBNUB_SUBSCRIBE_KEY to use a"
            " PubNub keyset, or neither of them nor PUBNUB_ORIGIN to use the local PubNub"
        )
    if missing:
        return None
    given: dict[str, SecretStr | str | None] = {
        **keys,
        "PUBNUB_SECRET_KEY": settings.pubnub_secret_key,
        "PUBNUB_ORIGIN": settings.pubnub_origin,
        "PUBNUB_SSL": str(settings.pubnub_ssl).lower(),
    }
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in given.items()
        if value is not None
    }


def local_environment(secret_key: str) -> dict[str, str]:
    """The settings of the local server by name; its origin is known once it listens."""
    return {
        "PUBNUB_PUBLISH_KEY": LOCAL_KEYS[0],
        "PUBNUB_SUBSCRIBE_KEY": LOCAL_KEYS[1],
        "PUBNUB_SECRET_KEY": secret_key,
        "PUBNUB_SSL": "false",
    }
