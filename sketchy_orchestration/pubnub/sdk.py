"""Publishing through the official SDK, asyncio, with its aiohttp request handler.

docs/decisions/0010 lists the SDK's traps and how each is met here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
from pubnub.exceptions import PubNubException
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub_asyncio import PubNubAsyncio
from pubnub.request_handlers.async_aiohttp import AsyncAiohttpRequestHandler

from sketchy_orchestration.domain import publishing
from sketchy_orchestration.domain.publishing import Breakage, Verdict
from sketchy_orchestration.pubnub.keyset import Keyset, keep_out_of_logs
from sketchy_orchestration.pubnub.publisher import SERVER_UUID, Acceptance, check_sendable, failure

# A longer message goes as POST: proxies on the way commonly refuse request lines above 8 KiB, and JSON grows
# to up to three times its length in a URL.
_LONGEST_GET = 2_000
# The SDK insists on whole seconds of its own; ours is always the shorter one.
_SDK_TIMEOUT = 3_600
# Spare connections, so that one that is being closed never makes a publish wait.
_SPARE_CONNECTIONS = 8


@dataclass(slots=True)
class _Exchange:
    """What one publish got back, kept because the SDK loses it when the body is not JSON."""

    response: aiohttp.ClientResponse | None = None


_exchange: ContextVar[_Exchange] = ContextVar("pubnub_exchange")


class _Session:
    """What the SDK's handler takes for its aiohttp session."""

    def __init__(self, connections: int) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            # Bounded by the caller over the whole exchange, not in parts.
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # aiohttp repeats a GET whose connection was lost: a second, uncounted message if the first arrived.
        self._session._retry_connection = False

    async def request(
        self, method: str, url: Any, *, headers: Mapping[str, str], data: Any, allow_redirects: bool
    ) -> aiohttp.ClientResponse:
        del allow_redirects  # A redirect is never PubNub's: the answer of whoever sends one must not count.
        response = await self._session.request(method, url, headers=headers, data=data, allow_redirects=False)
        _exchange.get().response = response
        return response

    async def close(self) -> None:
        await self._session.close()


class _Handler(AsyncAiohttpRequestHandler):  # type: ignore[misc]  # the SDK ships no types
    """The SDK's own handler, with a session that has enough connections."""

    connections = 100
    _session: _Session | None = None

    async def create_session(self) -> None:
        if not self._session:
            self._session = _Session(self.connections)


class SdkPublisher:
    """The real thing: one SDK client for all its life, which belongs to the event loop that first uses it.

    Args:
        concurrency: publishes in flight at most; more of them wait for a connection, inside their timeout.
        uuid: as whom PubNub sees us.
    """

    def __init__(self, keyset: Keyset, *, concurrency: int = 100, uuid: str = SERVER_UUID) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency {concurrency} must be 1 or more")
        self._keyset = keyset
        self._connections = concurrency + _SPARE_CONNECTIONS
        self._uuid = uuid
        self._client: Any = None
        self._closed = False

    def __repr__(self) -> str:
        return f"SdkPublisher(origin={self._keyset.origin!r}, connections={self._connections})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def publish(
        self,
        channel: str,
        message: Mapping[str, object],
        *,
        timeout: float,  # noqa: ASYNC109  # bounds each attempt, by contract
        store: bool = True,
    ) -> Acceptance:
        """See `Publisher.publish`."""
        length = check_sendable(channel, message)
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        exchange = _Exchange()
        _exchange.set(exchange)
        try:
            async with asyncio.timeout(timeout):
                acceptance = await self._exchange(channel, message, length, store, exchange)
        except TimeoutError:
            raise failure(
                publishing.of_breakage(Breakage.timeout, f"no answer within {timeout:g} s")
            ) from None
        finally:
            # Cut short while its body was being read, a connection is of no further use.
            if exchange.response is not None:
                exchange.response.close()
        # asyncio.wait_for swallows a cancellation that arrives together with the answer.
        if task and task.cancelling() > cancelled_before:
            raise asyncio.CancelledError
        return acceptance

    async def _exchange(
        self, channel: str, message: Mapping[str, object], length: int, store: bool, exchange: _Exchange
    ) -> Acceptance:
        request = (
            self._sdk()
            .publish()
            .channel(channel)
            .message(message)
            .should_store(store)
            .use_post(length > _LONGEST_GET)
        )
        try:
            result = await request.result()
        except (TimeoutError, asyncio.CancelledError):
            raise
        except Exception as error:  # the SDK lets anything through: see the decision
            raise failure(await self._verdict(error, exchange)) from None
        # The SDK takes any 200 with three parts for an acceptance.
        response = exchange.response
        body = await response.read() if response else b""
        if not body.startswith(b"[1,") or result is None or result.timetoken <= 0:
            raise failure(await self._verdict(ValueError("no acceptance"), exchange))
        return Acceptance(int(result.timetoken))

    async def _verdict(self, error: Exception, exchange: _Exchange) -> Verdict:
        response = exchange.response
        if response is not None:
            try:
                body: object = await response.text(errors="replace")
            except (aiohttp.ClientError, OSError, LookupError) as broken:
                return publishing.of_breakage(
                    Breakage.connection,
                    self._tell(f"{response.status}, then {type(broken).__name__}: {broken}"),
                )
            with suppress(ValueError):
                body = json.loads(str(body))
            return self._judge(response.status, body, response.headers.get("Retry-After"))
        if isinstance(error, PubNubException):
            # Before any request: the SDK found a key missing.
            return Verdict(publishing.Fault.keyset, "credentials", self._tell(str(error)))
        return publishing.of_breakage(Breakage.connection, self._tell(f"{type(error).__name__}: {error}"))

    def _judge(self, status: int, body: object, asked: str | None) -> Verdict:
        verdict = publishing.of_answer(status, body, retry_after(asked, datetime.now(UTC)))
        return Verdict(verdict.fault, verdict.reason, self._tell(verdict.detail), verdict.retry_after)

    def _tell(self, text: str) -> str:
        return self._keyset.redact(text)

    def _sdk(self) -> Any:
        if self._closed:
            raise failure(publishing.of_breakage(Breakage.connection, "this publisher is closed"))
        if self._client is None:
            keep_out_of_logs(self._keyset)
            config = configuration(self._keyset, self._uuid)
            config.enable_subscribe = False
            handler = type("_SizedHandler", (_Handler,), {"connections": self._connections})
            self._client = PubNubAsyncio(config, custom_request_handler=handler)
        return self._client

    async def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close_session()


def configuration(keyset: Keyset, uuid: str) -> Any:
    """The SDK's configuration for a keyset."""
    config = PNConfiguration()
    config.publish_key = keyset.publish_key.get_secret_value()
    config.subscribe_key = keyset.subscribe_key.get_secret_value()
    config.secret_key = keyset.secret_key.get_secret_value() if keyset.secret_key else None
    config.origin = keyset.origin
    config.ssl = keyset.ssl
    config.uuid = uuid
    config.non_subscribe_request_timeout = _SDK_TIMEOUT
    return config


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds a Retry-After header asks for, given as seconds or as a date; None when it asks for nothing."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    return seconds if 0 < seconds < float("inf") else None
