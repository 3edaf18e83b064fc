"""What every publisher does alike: the one in memory, the simulation's, and the real one over real HTTP."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr

from sketchy_orchestration.domain.publishing import Fault, Verdict
from sketchy_orchestration.local.pubnub import FaultKind, LocalPubNub
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.pubnub.publisher import (
    Acceptance,
    EventRefusedError,
    KeysetRefusedError,
    MomentFailedError,
    Publisher,
    PublishError,
    failure,
)
from sketchy_orchestration.pubnub.sdk import SdkPublisher
from tests.faults import invariants
from tests.integration.publisher.conftest import keyset_at, until
from tests.integration.publisher.scripted import (
    CUT,
    HANG,
    LOST,
    ScriptedPubNub,
    answer,
    scripted_pubnub,
)
from tests.simulation.service import Refusal, Service, Silence

MESSAGE = {"type": "test", "text": "Grüße, 'quoted' & 100% <ok>\n", "nested": {"list": [1, 2.5, None, True]}}

FORBIDDEN = {"message": "Forbidden", "payload": {"channels": ["c"]}, "error": True, "status": 403}


@dataclass
class Rig:
    """A publisher, and how to break what is behind it."""

    publisher: Publisher
    reply: Callable[[int, Any, str | None], None]
    hang: Callable[[], None]
    cut: Callable[[], None]
    lose: Callable[[], None]
    accepted: Callable[[], list[tuple[str, Any]]]
    attempts: Callable[[], int]


def memory_rig() -> Rig:
    publisher = MemoryPublisher()

    def reply(status: int, body: Any, retry_after: str | None) -> None:
        publisher.answer(status, body, retry_after=float(retry_after) if retry_after else None)

    return Rig(
        publisher,
        reply,
        publisher.hang,
        publisher.cut,
        publisher.lose_answer,
        lambda: [(taken.channel, taken.message) for taken in publisher.accepted],
        lambda: publisher.attempts,
    )


class SimulatedPublisher:
    """The service that nights are simulated with; its answers' virtual seconds are slept."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.attempts = 0

    async def publish(
        self,
        channel: str,
        message: Any,
        *,
        timeout: float,  # noqa: ASYNC109  # bounds each attempt, by contract
        store: bool = True,  # noqa: ARG002  # by contract
    ) -> Acceptance:
        self.attempts += 1
        # It carries no bodies: what it keeps of a message beside its channel stands for one.
        sent = invariants.Accepted(channel, "an event", json.dumps(message), None, None, None, "", False)
        took, said = self._service.publish(sent, timeout)
        await asyncio.sleep(took)
        if isinstance(said, Verdict):
            raise failure(said)
        return Acceptance(int(said))

    async def close(self) -> None:
        """There is no connection."""


def simulated_rig() -> Rig:
    service = Service(Random(1))
    publisher = SimulatedPublisher(service)
    script = service.script.append
    return Rig(
        publisher,
        lambda status, body, after: script(Refusal(status, body, float(after) if after else None)),
        lambda: script(Silence.hang),
        lambda: script(Silence.cut),
        lambda: script(Silence.lost),
        lambda: [(taken.channel, json.loads(taken.type)) for taken in service.accepted],
        lambda: publisher.attempts,
    )


CLIENTS = ["memory", "scripted", "scripted, signed", "local PubNub"]
"""Publishers with bodies to judge and connections to close; the simulation's service has neither."""


@pytest.fixture(params=[*CLIENTS, "simulation"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param in ("memory", "simulation"):
        rig = memory_rig() if request.param == "memory" else simulated_rig()
        yield rig
        await rig.publisher.close()
    elif request.param == "local PubNub":
        with LocalPubNub() as pubnub:
            keyset = Keyset(
                SecretStr(pubnub.publish_key),
                SecretStr(pubnub.subscribe_key),
                origin=pubnub.origin,
                ssl=False,
            )
            async with SdkPublisher(keyset) as publisher:
                yield local_rig(publisher, pubnub)
    else:
        async with scripted_pubnub() as scripted:
            keyset = keyset_at(scripted.origin, signing="signed" in request.param)
            async with SdkPublisher(keyset) as publisher:
                yield scripted_rig(publisher, scripted)


def scripted_rig(publisher: SdkPublisher, pubnub: ScriptedPubNub) -> Rig:
    def reply(status: int, body: Any, retry_after: str | None) -> None:
        headers = {"Retry_After": retry_after} if retry_after else {}
        pubnub.script.append(answer(status, body, **headers))

    return Rig(
        publisher,
        reply,
        lambda: pubnub.script.append(HANG),
        lambda: pubnub.script.append(CUT),
        lambda: pubnub.script.append(LOST),
        lambda: [(taken.channel, taken.message) for taken in pubnub.accepted],
        lambda: len(pubnub.requests),
    )


def local_rig(publisher: SdkPublisher, pubnub: LocalPubNub) -> Rig:
    def fault(kind: FaultKind, **settings: Any) -> None:
        pubnub.faults.on(kind, operations=["publish"], times=1, **settings)

    def reply(status: int, body: Any, retry_after: str | None) -> None:
        if retry_after:
            if status != 429:
                pytest.skip("the local PubNub asks to wait with 429 only")
            fault(FaultKind.rate_limited, retry_after=float(retry_after))
        else:
            fault(FaultKind.status, status=status, body=body if isinstance(body, str) else json.dumps(body))

    return Rig(
        publisher,
        reply,
        lambda: fault(FaultKind.hang),
        lambda: fault(FaultKind.reset_before),
        lambda: fault(FaultKind.reset_after),
        lambda: [(taken.channel, taken.message) for taken in pubnub.record()],
        lambda: pubnub.stats()["requests"].get("publish", 0),
    )


async def refused(rig: Rig, message: Any = MESSAGE, *, channel: str = "c", limit: float = 5) -> PublishError:
    with pytest.raises(PublishError) as caught:
        await rig.publisher.publish(channel, message, timeout=limit)
    return caught.value


async def test_what_is_accepted_arrives_unchanged(rig: Rig) -> None:
    acceptance = await rig.publisher.publish("game-1", MESSAGE, timeout=5)
    assert rig.accepted() == [("game-1", MESSAGE)]
    assert len(str(acceptance.timetoken)) == 17


async def test_timetokens_are_unique_and_rise(rig: Rig) -> None:
    tokens = [(await rig.publisher.publish("c", {"n": n}, timeout=5)).timetoken for n in range(20)]
    assert tokens == sorted(set(tokens))


async def test_many_at_once(rig: Rig) -> None:
    accepted = await asyncio.gather(
        *(rig.publisher.publish(f"game-{n}", {"n": n}, timeout=10) for n in range(300))
    )
    assert len({acceptance.timetoken for acceptance in accepted}) == 300
    assert sorted(message["n"] for _, message in rig.accepted()) == list(range(300))


@pytest.mark.parametrize("size", [10, 3_000, 30_000])
async def test_small_and_large_messages(rig: Rig, size: int) -> None:
    message = {"text": "x" * size}
    await rig.publisher.publish("c", message, timeout=5)
    assert rig.accepted() == [("c", message)]


@pytest.mark.parametrize("rig", CLIENTS, indirect=True)
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"n": math.nan}, "not_json"),
        ({"n": math.inf}, "not_json"),
        ({"n": object()}, "not_json"),
        ({"n": {1, 2}}, "not_json"),
        ({"n": "x" * 33_000}, "too_large"),
        ({"n": "€" * 6_000}, "too_large"),
    ],
)
async def test_what_cannot_be_sent_is_refused_without_asking(rig: Rig, message: Any, reason: str) -> None:
    error = await refused(rig, message)
    assert isinstance(error, EventRefusedError)
    assert error.verdict.reason == reason
    assert rig.attempts() == 0


@pytest.mark.parametrize("rig", CLIENTS, indirect=True)
@pytest.mark.parametrize("channel", ["", "a,b", "game:1", "x" * 93])
async def test_bad_channels_are_refused_without_asking(rig: Rig, channel: str) -> None:
    error = await refused(rig, channel=channel)
    assert isinstance(error, EventRefusedError)
    assert error.verdict.reason == "bad_channel"
    assert rig.attempts() == 0


@pytest.mark.parametrize(
    ("status", "body", "expected", "reason"),
    [
        (400, [0, "Invalid Key", "14820000000000000"], KeysetRefusedError, "credentials"),
        (400, {"message": "Invalid Subscribe Key", "error": True}, KeysetRefusedError, "credentials"),
        (403, FORBIDDEN, KeysetRefusedError, "credentials"),
        (403, "<html>Forbidden</html>", KeysetRefusedError, "credentials"),
        (401, "", KeysetRefusedError, "credentials"),
        (400, [0, "Message Too Large", "1"], EventRefusedError, "too_large"),
        (413, [0, "Message Too Large"], EventRefusedError, "too_large"),
        (414, "<html>", EventRefusedError, "too_large"),
        (400, [0, "Invalid JSON", "1"], EventRefusedError, "invalid"),
        (408, "", MomentFailedError, "timeout"),
        (429, {"message": "Too Many Requests"}, MomentFailedError, "throttled"),
        (500, [0, "oops", "1"], MomentFailedError, "server_error"),
        (502, "<html>Bad Gateway</html>", MomentFailedError, "server_error"),
        (503, "", MomentFailedError, "server_error"),
        (404, "<html>Not Found</html>", MomentFailedError, "refused"),
        (302, "", MomentFailedError, "redirected"),
        (307, "", MomentFailedError, "redirected"),
        (200, "<html>Welcome to the hotel</html>", MomentFailedError, "unreadable"),
        (200, "[1,\"Sent\",", MomentFailedError, "unreadable"),
        (200, [0, "Sent", "17334108327846111"], MomentFailedError, "unreadable"),
        (200, [0, "Invalid Key", "17334108327846111"], KeysetRefusedError, "credentials"),
        (200, {"ok": True}, MomentFailedError, "unreadable"),
        (200, "", MomentFailedError, "unreadable"),
        (204, "", MomentFailedError, "unreadable"),
    ],
)  # fmt: skip
async def test_answers_are_told_apart(
    rig: Rig, status: int, body: Any, expected: type[PublishError], reason: str
) -> None:
    rig.reply(status, body, None)
    error = await refused(rig)
    assert type(error) is expected, error
    assert error.verdict.reason == reason, error
    assert str(status) in error.verdict.detail
    # And it goes on.
    await rig.publisher.publish("c", MESSAGE, timeout=5)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_is_passed_on(rig: Rig, status: int) -> None:
    rig.reply(status, {"message": "later"}, "17")
    assert (await refused(rig)).verdict.retry_after == 17


async def test_no_answer_within_the_limit_is_a_timeout(rig: Rig) -> None:
    rig.hang()
    began = time.monotonic()
    error = await refused(rig, limit=0.15)
    assert 0.14 <= time.monotonic() - began < 1
    assert (error.verdict.fault, error.verdict.reason) == (Fault.moment, "timeout")
    await rig.publisher.publish("c", MESSAGE, timeout=5)


async def test_a_cut_connection_is_the_moments_fault_and_nothing_arrived(rig: Rig) -> None:
    rig.cut()
    error = await refused(rig)
    assert (error.verdict.fault, error.verdict.reason) == (Fault.moment, "connection")
    assert (rig.accepted(), rig.attempts()) == ([], 1)


async def test_a_lost_acknowledgement_is_not_repeated_in_secret(rig: Rig) -> None:
    await rig.publisher.publish("c", MESSAGE, timeout=5)
    rig.lose()
    error = await refused(rig)
    assert (error.verdict.fault, error.verdict.reason) == (Fault.moment, "connection")
    assert (len(rig.accepted()), rig.attempts()) == (2, 2)


async def test_cancelling_is_honoured_at_once(rig: Rig) -> None:
    rig.hang()
    task = asyncio.create_task(rig.publisher.publish("c", MESSAGE, timeout=60))
    await until(lambda: rig.attempts() == 1)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1
    await rig.publisher.publish("c", MESSAGE, timeout=5)


@pytest.mark.parametrize("rig", CLIENTS, indirect=True)
async def test_a_closed_publisher_fails_and_closing_twice_is_allowed(rig: Rig) -> None:
    rig.hang()
    task = asyncio.create_task(rig.publisher.publish("c", MESSAGE, timeout=60))
    await until(lambda: rig.attempts() == 1)
    await rig.publisher.close()
    with pytest.raises(MomentFailedError):
        await task
    await rig.publisher.close()
    assert isinstance(await refused(rig), MomentFailedError)
