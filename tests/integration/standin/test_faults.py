"""Every fault, on the wire: what the client sees, and what the server did all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import IncompleteRead
from typing import Any

import pytest

from sketchy_orchestration.local.pubnub import FaultKind, StandInError
from tests.integration.standin.wire import Wire, until


def _accepted(wire: Wire) -> list[Any]:
    return [entry.message for entry in wire.pubnub.record()]


def test_latency_with_jitter(wire: Wire) -> None:
    wire.pubnub.faults.on("latency", delay=0.2, jitter=0.1)
    began = time.monotonic()
    assert wire.publish("room", 1).status == 200
    assert 0.19 <= time.monotonic() - began < 2


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
def test_a_status_with_a_body_of_choice(wire: Wire, status: int) -> None:
    wire.pubnub.faults.on("status", status=status, body='{"my":"body"}')
    reply = wire.publish("room", 1)
    assert (reply.status, reply.json) == (status, {"my": "body"})
    assert reply.headers["access-control-allow-origin"] == "*"
    assert _accepted(wire) == []


def test_a_status_may_hide_that_the_message_was_accepted(wire: Wire) -> None:
    wire.pubnub.faults.on("status", status=500, accept=True)
    assert wire.publish("room", 1).status == 500
    (entry,) = wire.pubnub.record()
    assert (entry.message, entry.fault) == (1, "status")


def test_429_says_when_to_come_back(wire: Wire) -> None:
    wire.pubnub.faults.on("rate-limited", retry_after=7)
    reply = wire.publish("room", 1)
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")


def test_wrong_key_answers_as_pubnub_does(wire: Wire) -> None:
    wire.pubnub.faults.on("wrong-key")
    assert wire.publish("room", 1).json[:2] == [0, "Invalid Key"]
    assert wire.subscribe("room").json["message"] == "Invalid Subscribe Key"
    assert _accepted(wire) == []


@pytest.mark.parametrize(("kind", "accepted"), [("reset-before", []), ("reset-after", [1])])
def test_a_reset_before_and_after_the_message_was_accepted(
    wire: Wire, kind: str, accepted: list[int]
) -> None:
    since = wire.handshake("room")
    wire.pubnub.faults.on(kind, times=1)
    with pytest.raises(ConnectionResetError):
        wire.publish("room", 1)
    assert _accepted(wire) == accepted
    assert wire.publish("room", 2).status == 200
    assert [heard["d"] for heard in wire.subscribe("room", since).json["m"]] == [*accepted, 2]


def test_a_hang_never_answers(wire: Wire) -> None:
    wire.pubnub.faults.on("hang")
    with pytest.raises(TimeoutError):
        wire.get("/time/0", limit=0.3)
    wire.pubnub.faults.on("hang", accept=True)
    wire.pubnub.faults.off(1)
    with pytest.raises(TimeoutError):
        wire.request("GET", f"/publish/{wire.pub}/{wire.sub}/0/room/0/1", limit=0.3)
    assert _accepted(wire) == [1]


def test_a_truncated_answer_breaks_off(wire: Wire) -> None:
    wire.pubnub.faults.on("truncated")
    with pytest.raises(IncompleteRead) as broken:
        wire.publish("room", 1)
    assert broken.value.partial.startswith(b'[1,"Sent')
    assert _accepted(wire) == [1]


def test_garbage_is_not_json(wire: Wire) -> None:
    wire.pubnub.faults.on("garbage")
    reply = wire.publish("room", 1)
    assert reply.status == 200
    with pytest.raises(ValueError, match=r"decode|JSON|Expecting|surrogate"):
        _ = reply.json
    assert _accepted(wire) == [1]


def test_an_html_error_page(wire: Wire) -> None:
    wire.pubnub.faults.on("html", status=502)
    reply = wire.publish("room", 1)
    assert (reply.status, reply.headers["content-type"]) == (502, "text/html")
    assert reply.body.startswith(b"<html>")
    assert _accepted(wire) == []


def test_a_slow_trickle_arrives_whole_in_the_end(wire: Wire) -> None:
    wire.pubnub.faults.on("trickle", delay=0.01)
    began = time.monotonic()
    assert wire.publish("room", 1).json[1] == "Sent"
    assert time.monotonic() - began > 0.25


def test_a_duplicate_is_delivered_twice_but_accepted_once(wire: Wire) -> None:
    since = wire.handshake("room")
    waiting = wire.subscribe_later("room", since)
    wire.pubnub.faults.on("duplicate")
    wire.publish("room", 1)
    assert [heard["d"] for heard in waiting.result(5).json["m"]] == [1, 1]
    caught_up = wire.subscribe("room", since).json["m"]
    assert [heard["d"] for heard in caught_up] == [1, 1]
    assert caught_up[0]["p"]["t"] == caught_up[1]["p"]["t"]
    assert _accepted(wire) == [1]
    assert len(wire.history("room")["room"]) == 1


def test_a_fault_strikes_only_its_operations_and_channels(wire: Wire) -> None:
    wire.pubnub.faults.on("status", operations=["publish"], channels="room-*")
    assert wire.publish("room-1", 1).status == 503
    assert wire.publish("hall-1", 1).status == 200
    assert wire.publish("room-1", 1, kind="signal").status == 200
    assert wire.subscribe("room-1").status == 200
    assert wire.get("/time/0").status == 200


def test_a_fault_on_a_channel_strikes_a_subscribe_that_has_it_among_others(wire: Wire) -> None:
    wire.pubnub.faults.on("status", operations=["subscribe"], channels="b")
    assert wire.subscribe("a,b,c").status == 503
    assert wire.subscribe("a,c").status == 200


def test_a_fault_ends_by_itself(wire: Wire) -> None:
    wire.pubnub.faults.on("status", seconds=0.3)
    assert wire.publish("room", 1).status == 503
    until(lambda: wire.publish("room", 1).status == 200, limit=2)
    assert wire.pubnub.faults.off() == 0


def test_a_fault_strikes_as_often_as_it_was_told(wire: Wire) -> None:
    wire.pubnub.faults.on("status", times=2)
    assert [wire.publish("room", n).status for n in range(4)] == [503, 503, 200, 200]
    assert wire.pubnub.faults.struck() == 2


def test_a_share_of_the_requests_fails_and_the_same_seed_fails_the_same(start: Callable[..., Wire]) -> None:
    def outcome(seed: int) -> list[int]:
        wire = start(seed=seed)
        wire.pubnub.faults.on("status", share=0.3)
        return [wire.publish("room", n).status for n in range(200)]

    first = outcome(1)
    assert first == outcome(1)
    assert first != outcome(2)
    assert 30 <= first.count(503) <= 90


def test_a_wrong_fault_says_what_is_allowed(wire: Wire) -> None:
    with pytest.raises(StandInError, match="unknown kind 'nonsense': use latency"):
        wire.pubnub.faults.on("nonsense")
    with pytest.raises(StandInError, match=r"share is 2"):
        wire.pubnub.faults.on("hang", share=2)


def test_every_kind_has_a_test_here() -> None:
    tested = {
        "latency", "status", "rate-limited", "wrong-key", "reset-before", "reset-after", "hang", "truncated",
        "garbage", "html", "trickle", "duplicate",
    }  # fmt: skip
    assert {kind.value for kind in FaultKind} == tested
