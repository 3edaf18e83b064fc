"""How the asyncio SDK's two request handlers fail and cancel; docs/pubnub-standin.md tells it as a table.

These are facts about the SDK, not about the stand-in. When one changes with a new SDK, the docs and whoever
relies on it change too.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiohttp
import httpx
import pytest
from pubnub.enums import PNStatusCategory
from pubnub.exceptions import PubNubAsyncioException, PubNubException
from pubnub.pubnub_asyncio import PubNubAsyncio
from pubnub.request_handlers.async_aiohttp import AsyncAiohttpRequestHandler
from pubnub.request_handlers.async_httpx import AsyncHttpxRequestHandler, WallClockTimeoutError

from sketchy_orchestration.local.pubnub import LocalPubNub
from tests.integration.standin.test_python_async import comes_true, connected

HTTPX, AIOHTTP = AsyncHttpxRequestHandler, AsyncAiohttpRequestHandler
BOTH = pytest.mark.parametrize("handler", [HTTPX, AIOHTTP])
TOO_LARGE = '[0,"Message Too Large","17000000000000000"]'


def _publish(client: PubNubAsyncio, message: object = 1, *, post: bool = False) -> Any:
    return client.publish().channel("room").message(message).use_post(post)


async def _raised(client: PubNubAsyncio) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one it is, is the question
        await _publish(client).result()
    return raised.value


@BOTH
@pytest.mark.parametrize(
    ("status", "body", "category"),
    [
        (400, TOO_LARGE, PNStatusCategory.PNBadRequestCategory),
        (403, '{"message":"Forbidden"}', PNStatusCategory.PNAccessDeniedCategory),
        (429, '{"message":"Too Many Requests"}', PNStatusCategory.PNUnknownCategory),
        (500, "{}", PNStatusCategory.PNUnknownCategory),
        (503, "", PNStatusCategory.PNUnknownCategory),
    ],
)
async def test_a_json_or_empty_error_body_keeps_its_status(
    local_pubnub: LocalPubNub, handler: type, status: int, body: str, category: PNStatusCategory
) -> None:
    local_pubnub.faults.on("status", status=status, body=body)
    async with connected(local_pubnub, handler, "me") as client:
        error = await _raised(client)
        assert isinstance(error, PubNubException)
        assert (error.get_status_code(), error.status.category) == (status, category)
        returned = await _publish(client).future()
        assert isinstance(returned, PubNubAsyncioException)
        assert returned.status.status_code == status


@pytest.mark.parametrize(
    ("handler", "kind", "expected"),
    [
        (HTTPX, "html", AttributeError),
        (HTTPX, "garbage", AttributeError),
        (HTTPX, "truncated", httpx.RemoteProtocolError),
        (HTTPX, "reset-before", httpx.ReadError),
        (HTTPX, "reset-after", httpx.ReadError),
        (HTTPX, "hang", WallClockTimeoutError),
        (HTTPX, "trickle", WallClockTimeoutError),
        (AIOHTTP, "html", json.JSONDecodeError),
        (AIOHTTP, "garbage", UnicodeDecodeError),
        (AIOHTTP, "truncated", aiohttp.ClientPayloadError),
        (AIOHTTP, "reset-before", aiohttp.ClientOSError),
        (AIOHTTP, "reset-after", aiohttp.ClientOSError),
        (AIOHTTP, "hang", TimeoutError),
    ],
)
async def test_result_raises_whatever_the_http_client_raised(
    local_pubnub: LocalPubNub, handler: type, kind: str, expected: type[Exception]
) -> None:
    local_pubnub.faults.on(kind, status=502, delay=0.2)
    async with connected(local_pubnub, handler, "me", non_subscribe_request_timeout=1) as client:
        error = await _raised(client)
        assert type(error) is expected
        assert not isinstance(error, PubNubException)  # so the HTTP status of html and garbage is lost
        returned = await _publish(client).future()
        assert isinstance(returned, PubNubAsyncioException)
        assert returned.status.status_code is None


async def test_the_aiohttp_handlers_timeout_ends_with_the_headers(local_pubnub: LocalPubNub) -> None:
    """A body that trickles is waited for without any limit: whoever calls needs a limit of its own."""
    local_pubnub.faults.on("trickle", delay=0.05)
    loop = asyncio.get_running_loop()
    async with connected(local_pubnub, AIOHTTP, "me", non_subscribe_request_timeout=1) as client:
        began = loop.time()
        assert (await _publish(client).result()).timetoken
        assert loop.time() - began > 1.3


@pytest.mark.parametrize(
    ("port", "expected"), [(HTTPX, httpx.ConnectError), (AIOHTTP, aiohttp.ClientConnectorError)]
)
async def test_nobody_listening(port: type, expected: type[Exception]) -> None:
    with LocalPubNub() as gone:
        pass
    async with connected(gone, port, "me") as client:
        assert isinstance(await _raised(client), expected)


@pytest.mark.parametrize(("handler", "accepted"), [(HTTPX, 1), (AIOHTTP, 2)])
async def test_a_lost_acknowledgement_on_a_connection_used_before(
    local_pubnub: LocalPubNub, handler: type, accepted: int
) -> None:
    """aiohttp sends a GET again when a kept-alive connection breaks: one call, two messages, no error."""
    async with connected(local_pubnub, handler, "me") as client:
        await _publish(client, "first").result()
        local_pubnub.faults.on("reset-after", times=1)
        if accepted == 2:
            assert (await _publish(client, "lost").result()).timetoken
        else:
            with pytest.raises(httpx.ReadError):
                await _publish(client, "lost").result()
    assert [entry.message for entry in local_pubnub.record()] == ["first"] + ["lost"] * accepted


@BOTH
async def test_a_post_is_never_sent_again(local_pubnub: LocalPubNub, handler: type) -> None:
    async with connected(local_pubnub, handler, "me") as client:
        await _publish(client, "first", post=True).result()
        local_pubnub.faults.on("reset-after", times=1)
        with pytest.raises((httpx.ReadError, aiohttp.ClientOSError)):
            await _publish(client, "lost", post=True).result()
    assert [entry.message for entry in local_pubnub.record()] == ["first", "lost"]


@BOTH
async def test_cancelling_result_cancels_but_may_not_take_the_message_back(
    local_pubnub: LocalPubNub, handler: type
) -> None:
    local_pubnub.faults.on("hang", accept=True, times=1)
    async with connected(local_pubnub, handler, "me") as client:
        task = asyncio.ensure_future(_publish(client, "hung").result())
        await comes_true(local_pubnub.record)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await _publish(client, "next").result()).timetoken
    assert [entry.message for entry in local_pubnub.record()] == ["hung", "next"]


@BOTH
async def test_cancelling_future_is_swallowed(local_pubnub: LocalPubNub, handler: type) -> None:
    """It returns an exception instead, so an asyncio.timeout around it never fires: use result()."""
    local_pubnub.faults.on("hang")
    async with connected(local_pubnub, handler, "me") as client:
        async with asyncio.timeout(0.2) as limit:
            returned = await _publish(client).future()
        assert limit.expired()
        assert isinstance(returned, PubNubAsyncioException)
        assert returned.status.category is PNStatusCategory.PNCancelledCategory
        async with asyncio.timeout(0.2) as limit:
            with pytest.raises(asyncio.CancelledError):
                await _publish(client).result()


@BOTH
async def test_a_cancel_that_meets_the_answer(local_pubnub: LocalPubNub, handler: type) -> None:
    """Python 3.11's wait_for, which the aiohttp handler uses, may swallow it: the result comes instead."""
    asked = cancelled = swallowed = 0
    async with connected(local_pubnub, handler, "me") as client:
        for number in range(300):
            task = asyncio.ensure_future(_publish(client, number).result())
            await asyncio.sleep(number % 50 * 0.00004)
            asked += task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            cancelled += task.cancelled()
            swallowed += not task.cancelled() and not isinstance(ended, Exception)
    assert cancelled + swallowed == 300
    if handler is HTTPX or sys.version_info >= (3, 12):
        assert cancelled == asked
