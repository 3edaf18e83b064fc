"""Presence: join, leave, timeout, here now, where now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.standin.wire import Reply, Wire, until


def _presence(wire: Wire, rest: str, **query: object) -> Reply:
    return wire.get(f"/v2/presence/sub-key/{wire.sub}{rest}", **query)


def _users(wire: Wire, channel: str) -> list[str]:
    users: list[str] = _presence(wire, f"/channel/{channel}").json["uuids"]
    return users


def _events(wire: Wire, since: str) -> list[dict[str, Any]]:
    return [heard["d"] for heard in wire.subscribe("room-pnpres", since).json["m"]]


def test_a_handshake_joins_and_the_newcomer_hears_of_it_itself(wire: Wire) -> None:
    since = wire.handshake("room,room-pnpres", uuid="me")
    (heard,) = wire.subscribe("room,room-pnpres", since, uuid="me").json["m"]
    assert heard["c"] == "room-pnpres"
    event = heard["d"]
    assert (event["action"], event["uuid"], event["occupancy"]) == ("join", "me", 1)
    assert isinstance(event["timestamp"], int)
    assert heard["u"]["pn_action"] == "join"


def test_a_second_handshake_joins_nobody(wire: Wire) -> None:
    since = wire.handshake("room-pnpres")
    wire.handshake("room", uuid="me")
    wire.handshake("room", uuid="me")
    wire.handshake("room", uuid="you")
    assert [(event["uuid"], event["occupancy"]) for event in _events(wire, since)] == [("me", 1), ("you", 2)]


def test_listening_to_presence_alone_is_not_being_there(wire: Wire) -> None:
    wire.handshake("room-pnpres", uuid="me")
    assert _users(wire, "room") == []


def test_a_leave_is_told_and_believed(wire: Wire) -> None:
    wire.handshake("room,other", uuid="me")
    since = wire.handshake("room-pnpres")
    reply = _presence(wire, "/channel/room/leave", uuid="me")
    assert reply.json == {"status": 200, "message": "OK", "action": "leave", "service": "Presence"}
    (event,) = _events(wire, since)
    assert (event["action"], event["uuid"], event["occupancy"]) == ("leave", "me", 0)
    assert _users(wire, "room") == []
    assert _users(wire, "other") == ["me"]


def test_leaving_where_one_is_not_is_not_told(wire: Wire) -> None:
    since = wire.handshake("room-pnpres")
    assert _presence(wire, "/channel/room/leave", uuid="me").status == 200
    wire.handshake("room", uuid="you")
    assert [event["action"] for event in _events(wire, since)] == ["join"]


def test_silence_times_out(wire: Wire) -> None:
    since = wire.handshake("room-pnpres")
    wire.handshake("room", uuid="me", heartbeat=1)
    (join,) = _events(wire, since)
    until(lambda: _users(wire, "room") == [])
    events = _events(wire, since)
    assert [event["action"] for event in events] == ["join", "timeout"]
    assert join["uuid"] == events[1]["uuid"] == "me"


def test_heartbeats_keep_one_there(wire: Wire) -> None:
    since = wire.handshake("room-pnpres")
    _presence(wire, "/channel/room/heartbeat", uuid="me", heartbeat=1)
    _presence(wire, "/channel/room/heartbeat", uuid="you", heartbeat=1)
    beats = 0

    def still_there() -> bool:
        nonlocal beats
        beats += 1
        _presence(wire, "/channel/room/heartbeat", uuid="me", heartbeat=1)
        return _users(wire, "room") == ["me"]

    until(still_there)
    assert beats > 1
    told = [(event["action"], event["uuid"]) for event in _events(wire, since)]
    assert sorted(told[:2]) == [("join", "me"), ("join", "you")]
    assert told[2:] == [("timeout", "you")]


def test_an_open_long_poll_keeps_one_there(start: Callable[..., Wire]) -> None:
    wire = start(long_poll_seconds=20)
    since = wire.handshake("room", uuid="me", heartbeat=1)
    waiting = wire.subscribe_later("room", since, uuid="me", heartbeat=1)
    wire.handshake("room", uuid="you", heartbeat=1)
    until(lambda: _users(wire, "room") == ["me"])
    wire.publish("room", 1)
    assert waiting.result(5).status == 200
    until(lambda: _users(wire, "room") == [])


def test_a_join_by_heartbeat_reaches_a_subscriber_whose_handshake_comes_right_after(wire: Wire) -> None:
    _presence(wire, "/channel/room/heartbeat", uuid="me")
    since = wire.handshake("room,room-pnpres", uuid="me")
    assert [event["action"] for event in _events(wire, since)] == ["join"]


def test_here_now_of_one_channel(wire: Wire) -> None:
    wire.handshake("room", uuid="me")
    wire.handshake("room", uuid="you")
    here = _presence(wire, "/channel/room").json
    assert here == {
        "status": 200,
        "message": "OK",
        "service": "Presence",
        "occupancy": 2,
        "uuids": ["me", "you"],
    }
    assert "uuids" not in _presence(wire, "/channel/room", disable_uuids=1).json
    assert _presence(wire, "/channel/room?limit=1&offset=1").json["uuids"] == ["you"]
    assert _presence(wire, "/channel/room?limit=0").json["uuids"] == []
    assert _presence(wire, "/channel/nobody").json["occupancy"] == 0


def test_here_now_of_several_channels_and_of_all(wire: Wire) -> None:
    wire.handshake("a,b", uuid="me")
    wire.handshake("b", uuid="you")
    payload = _presence(wire, "/channel/a,b,c").json["payload"]
    assert payload["total_channels"] == 2
    assert payload["total_occupancy"] == 3
    assert payload["channels"]["b"] == {"occupancy": 2, "uuids": ["me", "you"]}
    assert _presence(wire, "").json["payload"] == payload


def test_where_now(wire: Wire) -> None:
    wire.handshake("b,a", uuid="me")
    assert _presence(wire, "/uuid/me").json["payload"] == {"channels": ["a", "b"]}
    assert _presence(wire, "/uuid/nobody").json["payload"] == {"channels": []}


def test_presence_calls_need_a_key_and_a_user(wire: Wire) -> None:
    assert wire.get("/v2/presence/sub-key/wrong/channel/room").json["message"] == "Invalid Subscribe Key"
    assert _presence(wire, "/channel/room/leave").status == 400
    assert _presence(wire, "/channel/room/heartbeat", uuid="u" * 93).status == 400
