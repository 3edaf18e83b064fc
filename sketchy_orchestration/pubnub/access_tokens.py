"""Access tokens of PubNub's Access Manager, granted through the official SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pubnub.models.consumer.v3.channel import Channel
from pubnub.pubnub_asyncio import PubNubAsyncio
from pubnub.request_handlers.async_aiohttp import AsyncAiohttpRequestHandler

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.pubnub.keyset import Keyset, KeysetError, keep_out_of_logs
from sketchy_orchestration.pubnub.publisher import SERVER_UUID
from sketchy_orchestration.pubnub.sdk import configuration


class GrantFailedError(SketchyError):
    """PubNub granted no token; the message holds no key."""


class AccessTokens:
    """Grants tokens; belongs to the event loop that first uses it.

    Raises:
        KeysetError: the keyset has no secret key, without which nothing can be granted.
    """

    def __init__(self, keyset: Keyset) -> None:
        if keyset.secret_key is None:
            raise KeysetError("PUBNUB_SECRET_KEY is not set: access tokens cannot be granted without it")
        self._keyset = keyset
        self._client: Any = None

    async def grant_reading(
        self, channels: Sequence[str], *, user_id: str, minutes: int, within: float
    ) -> str:
        """A token that lets one PubNub user, and nobody else, read these channels.

        Args:
            minutes: how long it is valid.
            within: seconds PubNub may take.

        Raises:
            GrantFailedError: PubNub refused, did not answer, or not in time.
        """
        if self._client is None:
            keep_out_of_logs(self._keyset)
            config = configuration(self._keyset, SERVER_UUID)
            config.enable_subscribe = False
            self._client = PubNubAsyncio(config, custom_request_handler=AsyncAiohttpRequestHandler)
        request = (
            self._client.grant_token()
            .channels([Channel.id(name).read() for name in channels])
            .authorized_uuid(user_id)
            .ttl(minutes)
        )
        try:
            async with asyncio.timeout(within):
                result = await request.result()
            token = str(result.token)
        except TimeoutError:
            raise GrantFailedError(f"PubNub did not answer within {within:g} s") from None
        except Exception as error:  # the SDK lets anything through
            raise GrantFailedError(self._keyset.redact(f"{type(error).__name__}: {error}")) from None
        return token

    async def close(self) -> None:
        """Close connections. Safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.close_session()
