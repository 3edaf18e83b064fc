"""The real publisher and subscriber against the local PubNub, whole and broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import SecretStr

from sketchy_orchestration.domain.publishing import Fault
from sketchy_orchestration.local.pubnub import FaultKind, LocalPubNub, StandInConfig
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.publisher import MomentFailedError, PublishError
from sketchy_orchestration.pubnub.sdk import SdkPublisher
from sketchy_orchestration.pubnub.subscriber import CannotHearError, Subscriber, channels_in_one_call


@pytest.fixture(params=["unsigned", "signed"])
def pubnub(request: pytest.FixtureRequest) -> Iterator[LocalPubNub]:
    secret = "sec-c-local" if request.param == "signed" else None
    with LocalPubNub(StandInConfig(secret_key=secret, enforce_access=False)) as server:
        yield server


def keyset_of(pubnub: LocalPubNub, **changes: str) -> Keyset:
    return Keyset(
        SecretStr(changes.get("publish_key", pubnub.publish_key)),
        SecretStr(changes.get("subscribe_key", pubnub.subscribe_key)),
        SecretStr(pubnub.secret_key) if pubnub.secret_key else None,
        origin=pubnub.origin,
        ssl=False,
    )


@pytest.fixture
async def publisher(pubnub: LocalPubNub) -> AsyncIterator[SdkPublisher]:
    async with SdkPublisher(keyset_of(pubnub)) as publisher:
        yield publisher


@pytest.fixture
async def subscriber(pubnub: LocalPubNub) -> AsyncIterator[Subscriber]:
    async with Subscriber(keyset_of(pubnub), uuid="listener") as subscriber:
        yield subscriber


@pytest.mark.parametrize("size", [10, 3_000, 20_000])
async def test_what_is_published_is_heard(
    publisher: SdkPublisher, subscriber: Subscriber, pubnub: LocalPubNub, size: int
) -> None:
    await subscriber.subscribe("game-1")
    message = {"text": "Grüße & 'quotes' 100%", "fill": "x" * size}
    acceptance = await publisher.publish("game-1", message, timeout=5)
    heard = await subscriber.next(within=5)
    assert (heard.channel, heard.message, heard.timetoken, heard.publisher) == (
        "game-1",
        message,
        acceptance.timetoken,
        "server-broadcast",
    )
    assert [int(taken.timetoken) for taken in pubnub.record()] == [acceptance.timetoken]


async def test_many_at_once_are_all_heard_in_timetoken_order(
    publisher: SdkPublisher, subscriber: Subscriber
) -> None:
    await subscriber.subscribe("game-1", "game-2")
    for batch in range(4):
        await asyncio.gather(
            *(publisher.publish(f"game-{1 + n % 2}", {"n": 50 * batch + n}, timeout=5) for n in range(50))
        )
    heard = [await subscriber.next(within=5) for _ in range(200)]
    assert sorted(each.message["n"] for each in heard) == list(range(200))
    assert [each.timetoken for each in heard] == sorted(each.timetoken for each in heard)


async def test_channels_come_and_go_without_losing_messages(
    publisher: SdkPublisher, subscriber: Subscriber
) -> None:
    await subscriber.subscribe("game-0")
    for n in range(1, 30):
        await publisher.publish("game-0", {"n": n}, timeout=5)
        await subscriber.subscribe(f"game-{n}")
    subscriber.unsubscribe("game-5")
    await publisher.publish("game-5", {"n": -1}, timeout=5)
    await publisher.publish("game-29", {"n": 30}, timeout=5)
    heard = [await subscriber.next(within=5) for _ in range(30)]
    assert [each.message["n"] for each in heard] == list(range(1, 31))
    assert subscriber.heard() == []


async def test_a_broken_poll_loses_nothing(
    publisher: SdkPublisher, subscriber: Subscriber, pubnub: LocalPubNub
) -> None:
    await subscriber.subscribe("game-1")
    pubnub.faults.on(FaultKind.garbage, operations=["subscribe"], times=1)
    pubnub.faults.on(FaultKind.reset_before, operations=["subscribe"], times=2)
    for n in range(5):
        await publisher.publish("game-1", {"n": n}, timeout=5)
    assert [(await subscriber.next(within=10)).message["n"] for _ in range(5)] == list(range(5))


@pytest.mark.parametrize(
    ("kind", "settings", "fault", "arrives"),
    [
        (FaultKind.status, {"status": 503}, Fault.moment, False),
        (FaultKind.rate_limited, {}, Fault.moment, False),
        (FaultKind.wrong_key, {}, Fault.keyset, False),
        (FaultKind.reset_before, {}, Fault.moment, False),
        (FaultKind.reset_after, {}, Fault.moment, True),
        (FaultKind.hang, {}, Fault.moment, False),
        (FaultKind.truncated, {}, Fault.moment, True),
        (FaultKind.garbage, {}, Fault.moment, True),
        (FaultKind.html, {}, Fault.moment, False),
        (FaultKind.trickle, {"delay": 0.5}, Fault.moment, True),
    ],
)
async def test_each_fault_has_its_verdict_and_is_over_afterwards(
    publisher: SdkPublisher,
    pubnub: LocalPubNub,
    kind: FaultKind,
    settings: dict[str, float],
    fault: Fault,
    arrives: bool,
) -> None:
    await publisher.publish("game-1", {"n": 0}, timeout=5)
    pubnub.faults.on(kind, operations=["publish"], times=1, **settings)
    with pytest.raises(PublishError) as caught:
        await publisher.publish("game-1", {"n": 1}, timeout=0.5)
    assert caught.value.verdict.fault is fault
    await publisher.publish("game-1", {"n": 2}, timeout=5)
    # At most one arrived for the failed one: nobody repeated it in secret.
    assert len(pubnub.record()) == 2 + arrives


@pytest.mark.parametrize("wrong", [{"publish_key": "pub-c-wrong"}, {"subscribe_key": "sub-c-wrong"}])
async def test_wrong_keys_are_the_keysets_fault(pubnub: LocalPubNub, wrong: dict[str, str]) -> None:
    async with SdkPublisher(keyset_of(pubnub, **wrong)) as publisher:
        with pytest.raises(PublishError) as caught:
            await publisher.publish("game-1", {}, timeout=5)
    assert caught.value.verdict.fault is Fault.keyset


async def test_nobody_to_hear_is_said(pubnub: LocalPubNub) -> None:
    pubnub.faults.on(FaultKind.hang, operations=["subscribe"])
    async with Subscriber(keyset_of(pubnub), uuid="listener") as subscriber:
        with pytest.raises(CannotHearError, match="does not answer"):
            await subscriber.subscribe("game-1", within=0.2)


async def test_the_server_gone_is_the_moments_fault(pubnub: LocalPubNub) -> None:
    async with SdkPublisher(keyset_of(pubnub)) as publisher:
        await publisher.publish("game-1", {}, timeout=5)
        pubnub.stop()
        with pytest.raises(MomentFailedError):
            await publisher.publish("game-1", {}, timeout=5)


def test_channels_are_grouped_by_what_fits_in_one_call() -> None:
    channels = [f"game-{n:036d}" for n in range(250)]
    groups = channels_in_one_call(channels)
    assert [channel for group in groups for channel in group] == channels
    assert all(len(",".join(group)) <= 4_000 for group in groups)
    assert len(groups) == 3
    assert channels_in_one_call([]) == []
