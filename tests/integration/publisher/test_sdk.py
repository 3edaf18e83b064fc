"""What only the real publisher can get wrong: the SDK's traps, connections, keys in logs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest

from sketchy_orchestration.domain.publishing import Fault
from sketchy_orchestration.pubnub.publisher import MomentFailedError, PublishError
from sketchy_orchestration.pubnub.sdk import SdkPublisher
from tests.integration.publisher.conftest import PUBLISH_KEY, SECRET_KEY, SUBSCRIBE_KEY, keyset_at, until
from tests.integration.publisher.scripted import CUT, HANG, ScriptedPubNub, answer, scripted_pubnub


@pytest.fixture
async def pubnub() -> AsyncIterator[ScriptedPubNub]:
    async with scripted_pubnub() as server:
        yield server


async def test_one_connection_serves_one_after_the_other(pubnub: ScriptedPubNub) -> None:
    async with SdkPublisher(keyset_at(pubnub.origin)) as publisher:
        for n in range(10):
            await publisher.publish("c", {"n": n}, timeout=5)
        pubnub.script.append(answer(503, "<html>"))
        with pytest.raises(MomentFailedError):
            await publisher.publish("c", {}, timeout=5)
        await publisher.publish("c", {}, timeout=5)
    assert pubnub.connections == 1
    await until(lambda: pubnub.open_connections == 0)


async def test_there_is_a_connection_for_each_concurrent_publish(pubnub: ScriptedPubNub) -> None:
    pubnub.script.extend([HANG] * 150)
    async with SdkPublisher(keyset_at(pubnub.origin), concurrency=150) as publisher:
        stuck = [asyncio.create_task(publisher.publish(f"c{n}", {}, timeout=30)) for n in range(150)]
        await until(lambda: len(pubnub.requests) == 150)
        # And one that hangs keeps nobody else from a connection.
        await publisher.publish("c", {}, timeout=5)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


@pytest.mark.parametrize("length", [10, 5_000])
async def test_short_messages_are_gets_and_long_ones_posts(pubnub: ScriptedPubNub, length: int) -> None:
    async with SdkPublisher(keyset_at(pubnub.origin)) as publisher:
        await publisher.publish("c", {"text": "x" * length}, timeout=5, store=False)
    (request,) = pubnub.requests
    assert request.method == ("GET" if length < 100 else "POST")
    assert request.query["store"] == "0"
    assert request.query["uuid"] == "server-broadcast"


async def test_with_a_secret_key_requests_are_signed(pubnub: ScriptedPubNub) -> None:
    async with SdkPublisher(keyset_at(pubnub.origin, signing=True)) as publisher:
        await publisher.publish("c", {}, timeout=5)
    assert pubnub.requests[0].query["signature"].startswith("v2.")


async def test_an_answer_that_trickles_is_bounded_too(pubnub: ScriptedPubNub) -> None:
    # The SDK's own limit ends with the headers.
    pubnub.script.append(answer(200, "[1,", Content_Length="100"))
    async with SdkPublisher(keyset_at(pubnub.origin)) as publisher:
        began = time.monotonic()
        with pytest.raises(MomentFailedError, match="timeout"):
            await publisher.publish("c", {}, timeout=0.2)
        assert time.monotonic() - began < 1
        await until(lambda: pubnub.open_connections == 0)
        await publisher.publish("c", {}, timeout=5)


@pytest.mark.parametrize(
    "broken",
    [
        answer(200, b"\xff\xfe\x00garbage\x80"),
        answer(200, "[1,", Content_Length="100", Connection="close"),
        answer(500, "oops", Content_Length="100", Connection="close"),
        b"this is not HTTP\r\n\r\nConnection: close",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/x; charset=nonsense\r\nContent-Length: 2\r\n\r\n\xff\xff",
    ],
)
async def test_garbage_is_the_moments_fault(pubnub: ScriptedPubNub, broken: bytes) -> None:
    pubnub.script.append(broken)
    async with SdkPublisher(keyset_at(pubnub.origin)) as publisher:
        with pytest.raises(PublishError) as caught:
            await publisher.publish("c", {}, timeout=5)
        assert caught.value.verdict.fault is Fault.moment
        assert caught.value.verdict.reason in ("unreadable", "connection", "server_error")
        await publisher.publish("c", {}, timeout=5)


async def test_redirects_are_not_followed(pubnub: ScriptedPubNub) -> None:
    pubnub.script.append(answer(302, "", Location=f"http://{pubnub.origin}/publish/p/s/0/c/0/%7B%7D"))
    async with SdkPublisher(keyset_at(pubnub.origin)) as publisher:
        with pytest.raises(MomentFailedError, match="redirected"):
            await publisher.publish("c", {}, timeout=5)
    assert len(pubnub.requests) == 1


async def test_a_proxy_in_the_environment_is_ignored(
    pubnub: ScriptedPubNub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with SdkPublisher(keyset_at(pubnub.origin)) as publisher:
        await publisher.publish("c", {}, timeout=5)


async def test_nobody_there_is_the_moments_fault() -> None:
    async with SdkPublisher(keyset_at("127.0.0.1:9")) as publisher:
        with pytest.raises(MomentFailedError, match="connection"):
            await publisher.publish("c", {}, timeout=5)


async def test_a_cancellation_together_with_the_answer_is_not_swallowed(pubnub: ScriptedPubNub) -> None:
    async with SdkPublisher(keyset_at(pubnub.origin)) as publisher:
        outcomes = []
        for wait in range(40):
            task = asyncio.create_task(publisher.publish("c", {}, timeout=5))
            # A different moment of the exchange each time.
            for _ in range(wait):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            outcomes.append(task.cancelled())
        assert any(outcomes)
        await publisher.publish("c", {}, timeout=5)


async def test_keys_appear_neither_in_logs_nor_in_errors(
    pubnub: ScriptedPubNub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("pubnub", "aiohttp", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    keyset = keyset_at(pubnub.origin, signing=True)
    told = []
    async with SdkPublisher(keyset) as publisher:
        told.append(repr(publisher) + repr(keyset))
        # An answer that quotes the request, as some proxies do.
        pubnub.script.extend(
            [
                answer(404, f"no /publish/{PUBLISH_KEY}/{SUBSCRIBE_KEY}/0/c"),
                CUT,
                b"not HTTP\r\n\r\nConnection: close",
            ]
        )
        for _ in range(3):
            with pytest.raises(PublishError) as caught:
                await publisher.publish("c", {}, timeout=5)
            told.append(f"{caught.value!r} {caught.value} {caught.value.verdict}")
        await publisher.publish("c", {}, timeout=5)
    told += [record.getMessage() for record in caplog.records]
    assert any("***" in text for text in told)
    for secret in (PUBLISH_KEY, SUBSCRIBE_KEY, SECRET_KEY, "signature=v2"):
        assert not [text for text in told if secret in text]


def test_a_concurrency_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        SdkPublisher(keyset_at("h"), concurrency=0)
