"""Publishing through the official SDK, asyncio, with its aiohttp request handler.

docs/decisions/0010 lists the SDK's traps and how each is met here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
from pubnub import utils
from pubnub.exceptions import PubNubException
from pubnub.models.envelopes import AsyncioEnvelope
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub_asyncio import PubNubAsyncio
from pubnub.request_handlers.async_aiohttp import AsyncAiohttpRequestHandler
from yarl import URL

from sketchy_orchestration.domain import publishing
from sketchy_orchestration.domain.publishing import Breakage, Fault, Verdict
from sketchy_orchestration.pubnub.keyset import Keyset, keep_out_of_logs
from sketchy_orchestration.pubnub.publisher import SERVER_UUID, Acceptance, check_sendable, failure

# A longer message goes as POST: proxies on the way commonly refuse request lines above 8 KiB, and JSON grows
# to up to three times its length in a URL.
_LONGEST_GET = 2_000
# Spare connections, so that one that is being closed never makes a publish wait.
_SPARE_CONNECTIONS = 8


class _NotAcceptedError(Exception):
    """Any answer but an acceptance, with all that the SDK would lose of it."""

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        super().__init__(status)
        self.status, self.body, self.retry_after = status, body, retry_after


class _Handler(AsyncAiohttpRequestHandler):  # type: ignore[misc]  # the SDK ships no types
    """The SDK's aiohttp handler, with enough connections, and with answers taken as they are."""

    connections = 100
    _session: aiohttp.ClientSession | None = None

    async def create_session(self) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.connections),
                # Bounded by the caller over the whole exchange, not in parts.
                timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            # aiohttp repeats a GET whose connection was lost: a second message if the first had arrived.
            self._session._retry_connection = False

    async def async_request(self, options_func: Callable[[], Any], cancellation_event: Any) -> Any:
        """As the SDK's, but for what it gets wrong; and without a task, a timer and a parsed URL each."""
        del cancellation_event
        options = options_func()
        options.merge_params_in({})
        url = utils.build_url(
            self.pubnub.config.scheme(), self.pubnub.base_origin, options.path, options.query_string
        )
        await self.create_session()
        session: Any = self._session
        async with session.request(
            options.method_string,
            URL(url, encoded=True),
            headers={**self.pubnub.headers, **options.request_headers},
            data=options.data,
            # A redirect is never PubNub's: the answer of whoever sends one must not count.
            allow_redirects=False,
        ) as response:
            body = await response.read()
        if response.status != 200 or not body.startswith(b"[1,"):
            raise _NotAcceptedError(response.status, body, response.headers.get("Retry-After"))
        try:
            return AsyncioEnvelope(result=options.create_response(json.loads(body)), status=None)
        except (ValueError, LookupError, TypeError):
            raise _NotAcceptedError(response.status, body, None) from None


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
        request = (
            self._sdk()
            .publish()
            .channel(channel)
            .message(message)
            .should_store(store)
            .use_post(length > _LONGEST_GET)
        )
        try:
            async with asyncio.timeout(timeout):
                result = await request.result()
        except TimeoutError:
            raise failure(
                publishing.of_breakage(Breakage.timeout, f"no answer within {timeout:g} s")
            ) from None
        except _NotAcceptedError as answer:
            raise failure(self._judge(answer)) from None
        except PubNubException as error:
            # Before any request: the SDK found a key missing.
            raise failure(Verdict(Fault.keyset, "credentials", self._tell(str(error)))) from None
        except Exception as error:  # aiohttp, the system, and whatever else: nothing was answered
            told = self._tell(f"{type(error).__name__}: {error}")
            raise failure(publishing.of_breakage(Breakage.connection, told)) from None
        return Acceptance(int(result.timetoken))

    def _judge(self, answer: _NotAcceptedError) -> Verdict:
        body: object = answer.body.decode("utf-8", errors="replace")
        with suppress(ValueError):
            body = json.loads(str(body))
        asked = retry_after(answer.retry_after, datetime.now(UTC))
        verdict = publishing.of_answer(answer.status, body, asked)
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
