"""Publishing through the official SDK, asyncio, with its aiohttp request handler.

docs/decisions/0010 lists the SDK's traps and how each is met here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from pubnub import utils
from pubnub.endpoints.pubsub.publish import Publish
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
from sketchy_orchestration.pubnub.time_limit import TimeLimits

# A longer message goes as POST: proxies on the way commonly refuse request lines above 8 KiB, and JSON grows
# to up to three times its length in a URL.
_LONGEST_GET = 2_000
# Spare connections, so that one that is being closed never makes a publish wait.
_SPARE_CONNECTIONS = 8


_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+", re.ASCII)
# What JSON in ASCII has that a URL may not, `%` first: it stands in what replaces the others.
_QUOTED = [
    (character, quote(character, safe=""))
    for character in "%" + "".join(map(chr, (*range(0x20, 0x25), *range(0x26, 0x80))))
    if quote(character, safe="~") != character
]


class _NotAcceptedError(Exception):
    """Any answer but an acceptance, with all that the SDK would lose of it."""

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        super().__init__(status)
        self.status, self.body, self.retry_after = status, body, retry_after


class _Publish(Publish):  # type: ignore[misc]  # the SDK ships no types
    """The SDK's publish of a message that is JSON text (in ASCII) already: the same request in half the time.

    Attributes:
        known: what requests without a signature have in their query, by whether the message is stored.
    """

    def __init__(self, *given: Any, known: dict[bool, dict[str, str]], use_post: bool) -> None:
        super().__init__(*given, use_post=use_post)
        self.known = known

    def build_params_callback(self) -> Callable[[Any], dict[str, str]]:
        own: Callable[[Any], dict[str, str]] = super().build_params_callback()
        if self.pubnub.config.secret_key is not None:
            return own
        if self._should_store not in self.known:
            self.known[self._should_store] = own({})
        return lambda _: self.known[self._should_store]

    def build_data(self) -> str | None:
        return self._message if self._use_post else None

    def build_path(self) -> str:
        config, channel = self.pubnub.config, self._channel
        if not _PLAIN.fullmatch(channel):
            channel = utils.url_encode(channel)
        if self._use_post:
            return str(self.PUBLISH_POST_PATH % (config.publish_key, config.subscribe_key, channel, 0))
        text = self._message
        # For each character that may occur once over the text: a third of the time of quoting byte by byte.
        for character, quoted in _QUOTED:
            text = text.replace(character, quoted)
        return str(self.PUBLISH_GET_PATH % (config.publish_key, config.subscribe_key, channel, 0, text))


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
                headers=self.pubnub.headers,
            )
            # aiohttp repeats a GET whose connection was lost: a second message if the first had arrived.
            self._session._retry_connection = False

    async def async_request(self, options_func: Callable[[], Any], cancellation_event: Any) -> Any:
        """As the SDK's, but for what it gets wrong; and without a task, a timer and a parsed URL each."""
        del cancellation_event
        options = options_func()
        options.merge_params_in({})
        origin = f"{self.pubnub.config.scheme()}://{self.pubnub.base_origin}"
        if self._session is None:
            await self.create_session()
        session: Any = self._session
        async with session.request(
            options.method_string,
            URL(f"{origin}{options.path}?{options.query_string}", encoded=True),
            headers=options.request_headers or None,
            data=options.data,
            # A redirect is never PubNub's: the answer of whoever sends one must not count.
            allow_redirects=False,
        ) as response:
            body = await response.read()
        if response.status != 200 or not body.startswith(b"[1,"):
            raise _NotAcceptedError(response.status, body, response.headers.get("Retry-After"))
        try:
            return AsyncioEnvelope(result=options.create_response(json.loads(body.decode())), status=None)
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
        self._known: dict[bool, dict[str, str]] = {}
        self._limits = TimeLimits()
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
        text = check_sendable(channel, message)
        client, post = self._sdk(), len(text) > _LONGEST_GET
        request = _Publish(client, channel, text, store, known=self._known, use_post=post)
        limited = self._limits.begin(timeout)
        try:
            result = await request.result()
        except asyncio.CancelledError:
            if not limited.is_why():
                raise
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
        finally:
            limited.end()
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
        self._limits.close()
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
