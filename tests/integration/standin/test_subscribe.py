"""Subscribe on the wire: handshake, long poll, catching up, and the loss of a full buffer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from tests.integration.standin.wire import Wire, until


def test_the_handshake_answers_at_once_with_nothing(wire: Wire) -> None:
    wire.publish("room", "before")
    answer = wire.subscribe("room").json
    assert answer["m"] == []
    assert len(answer["t"]["t"]) == 17
    assert isinstance(answer["t"]["r"], int)


def test_a_waiting_subscriber_is_woken_by_a_publish(wire: Wire) -> None:
    waiting = wire.subscribe_later("room", wire.handshake("room"))
    timetoken = wire.publish("room", {"n": 1}, uuid="me").json[2]
    answer = waiting.result(5).json
    (heard,) = answer["m"]
    assert heard["d"] == {"n": 1}
    assert heard["p"]["t"] == timetoken == answer["t"]["t"]
    assert (heard["c"], heard["b"], heard["k"], heard["i"]) == ("room", "room", wire.sub, "me")
    assert "e" not in heard


def test_every_waiting_subscriber_of_the_channel_is_woken_and_no_other(wire: Wire) -> None:
    since = wire.handshake("a,b")
    heard = [wire.subscribe_later("a,b", since) for _ in range(20)]
    other = wire.subscribe_later("c", since)
    wire.publish("a", 1)
    assert all(future.result(5).json["m"][0]["d"] == 1 for future in heard)
    assert not other.done()
    wire.publish("c", 2)
    assert other.result(5).json["m"][0]["d"] == 2


def test_an_empty_long_poll_ends_with_a_newer_timetoken(start: Callable[..., Wire]) -> None:
    wire = start(long_poll_seconds=0.3)
    since = wire.handshake("room")
    began = time.monotonic()
    answer = wire.subscribe("room", since).json
    assert 0.25 <= time.monotonic() - began < 3
    assert answer["m"] == []
    assert int(answer["t"]["t"]) > int(since)
    wire.publish("room", 1)
    assert wire.subscribe("room", answer["t"]["t"]).json["m"][0]["d"] == 1


def test_what_was_missed_comes_at_once_and_in_order(wire: Wire) -> None:
    since = wire.handshake("a,b")
    for number in range(10):
        wire.publish("ab"[number % 2], number)
    answer = wire.subscribe("a,b", since).json
    assert [heard["d"] for heard in answer["m"]] == list(range(10))
    assert answer["t"]["t"] == answer["m"][-1]["p"]["t"]


def test_a_subscriber_away_too_long_keeps_the_newest_hundred_over_all_its_channels(wire: Wire) -> None:
    since = wire.handshake("a,b")
    for number in range(150):
        wire.publish("ab"[number % 2], number)
    first = wire.subscribe("a,b", since).json
    assert [heard["d"] for heard in first["m"]] == list(range(50, 150))
    assert wire.pubnub.stats()["lost_to_buffer"] == 50
    waiting = wire.subscribe_later("a,b", first["t"]["t"])
    wire.publish("a", "next")
    assert [heard["d"] for heard in waiting.result(5).json["m"]] == ["next"]


def test_loss_is_per_subscriber_not_per_channel(wire: Wire) -> None:
    since = wire.handshake("a")
    for number in range(60):
        wire.publish("a", number)
        wire.publish("b", number)
    assert len(wire.subscribe("a", since).json["m"]) == 60
    assert len(wire.subscribe("a,b", since).json["m"]) == 100


def test_what_is_older_than_the_buffer_is_gone(start: Callable[..., Wire]) -> None:
    wire = start(buffer_seconds=0.2, long_poll_seconds=0.1)
    since = wire.handshake("room")
    wire.publish("room", "old")
    published = time.monotonic()
    until(lambda: time.monotonic() > published + 0.25)
    assert wire.subscribe("room", since).json["m"] == []
    assert wire.history("room")["room"][0]["message"] == "old"


def test_a_timetoken_of_the_future_waits_for_its_time(start: Callable[..., Wire]) -> None:
    wire = start(long_poll_seconds=0.2)
    future = int(wire.handshake("room")) + 10_000_000_000
    waiting = wire.subscribe_later("room", future)
    wire.publish("room", 1)
    answer = waiting.result(5).json
    assert answer["m"] == []
    assert int(answer["t"]["t"]) == future


def test_a_subscriber_that_goes_away_stops_waiting(wire: Wire) -> None:
    host, port = wire.pubnub.origin.split(":")
    connection = socket.create_connection((host, int(port)))
    since = wire.handshake("room")
    connection.sendall(f"GET /v2/subscribe/{wire.sub}/room/0?tt={since} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    until(lambda: wire.pubnub.stats()["waiting"] == 1)
    connection.close()
    until(lambda: wire.pubnub.stats()["waiting"] == 0)
    assert wire.pubnub.stats()["channels"] == 0


def test_a_wrong_subscribe_key_gets_the_real_answer(wire: Wire) -> None:
    reply = wire.get("/v2/subscribe/wrong/room/0", tt=0)
    assert reply.status == 400
    assert reply.json == {
        "message": "Invalid Subscribe Key",
        "error": True,
        "service": "Access Manager",
        "status": 400,
    }


def test_what_is_left_out_says_so(wire: Wire) -> None:
    sub = wire.sub
    paths = [
        f"/v2/subscribe/{sub}/room.*/0?tt=0",
        f"/v2/subscribe/{sub}/,/0?tt=0&channel-group=g",
        f"/v2/subscribe/{sub}/room/0?tt=0&filter-expr=a%3D%3D1",
        f"/v2/subscribe/{sub}/room/0?tt=0&state=%7B%7D",
        f"/v2/presence/sub-key/{sub}/channel/room/uuid/me/data?state=%7B%7D",
        f"/v2/presence/sub-key/{sub}/channel/room/uuid/me",
        f"/v2/presence/sub-key/{sub}/channel/,?channel-group=g",
        f"/v1/channel-registration/sub-key/{sub}/channel-group/g?add=a",
        f"/v3/history-with-actions/sub-key/{sub}/channel/room",
        f"/v2/history/sub-key/{sub}/channel/room",
        f"/v2/objects/{sub}/channels",
        f"/v1/files/{sub}/channels/room/files",
    ]
    for path in paths:
        reply = wire.get(path)
        assert (reply.status, reply.json["unsupported"], reply.json["error"]) == (400, True, True), path
        assert "not supported" in reply.json["message"]
    deleted = wire.request("DELETE", f"/v3/history/sub-key/{sub}/channel/room")
    assert (deleted.status, deleted.json["unsupported"]) == (400, True)


def test_memory_is_bounded_and_empty_channels_are_forgotten(start: Callable[..., Wire]) -> None:
    wire = start(log_messages=100)
    for number in range(300):
        wire.publish(f"room-{number}", number)
    stats = wire.pubnub.stats()
    assert (stats["kept_messages"], stats["channels"]) == (100, 100)
    assert wire.history("room-0") == {}
    assert wire.history("room-299")["room-299"][0]["message"] == 299


def test_bytes_are_bounded_too(start: Callable[..., Wire]) -> None:
    wire = start(log_bytes=100_000, record_bytes=50_000)
    for _ in range(20):
        wire.publish("room", "x" * 20_000)
    stats = wire.pubnub.stats()
    assert stats["kept_bytes"] <= 100_000
    assert len(wire.history("room")["room"]) == stats["kept_messages"] == 4
    assert len(wire.pubnub.record()) == 2
    assert wire.pubnub.record()[-1].index == 19
    assert stats["record_dropped"] == 18
