"""History version 3 and message counts: PubNub's paging."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.standin.wire import Wire


def _filled(wire: Wire, count: int, channel: str = "room") -> list[str]:
    return [wire.publish(channel, number, uuid="me").json[2] for number in range(count)]


def test_an_empty_channel_is_left_out(wire: Wire) -> None:
    reply = wire.get(f"/v3/history/sub-key/{wire.sub}/channel/room")
    assert reply.json == {"status": 200, "error": False, "error_message": "", "channels": {}}


def test_one_channel_gives_its_newest_hundred_oldest_first(wire: Wire) -> None:
    _filled(wire, 120)
    assert [item["message"] for item in wire.history("room")["room"]] == list(range(20, 120))
    assert [item["message"] for item in wire.history("room", max=3)["room"]] == [117, 118, 119]
    assert len(wire.history("room", max=500)["room"]) == 100
    assert len(wire.history("room", max=0)["room"]) == 100


def test_several_channels_give_twenty_five_each(wire: Wire) -> None:
    _filled(wire, 30, "a")
    _filled(wire, 30, "b")
    pages = wire.history("a,b,c", max=100)
    assert {name: len(page) for name, page in pages.items()} == {"a": 25, "b": 25}
    assert pages["a"][-1]["message"] == 29


def test_start_is_exclusive_and_end_inclusive(wire: Wire) -> None:
    tokens = _filled(wire, 10)

    def numbers(**query: object) -> list[int]:
        return [item["message"] for item in wire.history("room", **query).get("room", [])]

    assert numbers(start=tokens[5]) == [0, 1, 2, 3, 4]
    assert numbers(end=tokens[5]) == [5, 6, 7, 8, 9]
    assert numbers(start=tokens[7], end=tokens[3]) == [3, 4, 5, 6]
    assert numbers(start=tokens[5], max=2) == [3, 4]
    assert numbers(end=tokens[2], max=2) == [8, 9]
    assert numbers(start=tokens[3], end=tokens[7]) == []


def test_paging_backwards_reads_everything_once(wire: Wire) -> None:
    _filled(wire, 230)
    read: list[int] = []
    start = None
    while True:
        query = {} if start is None else {"start": start}
        page = wire.history("room", **query).get("room", [])
        if not page:
            break
        read = [item["message"] for item in page] + read
        start = page[0]["timetoken"]
    assert read == list(range(230))


def test_an_item_carries_what_was_asked_for(wire: Wire) -> None:
    wire.publish("room", 1, uuid="me", meta='{"k":1}', custom_message_type="my-type")
    wire.publish("room", 2, uuid="me")
    plain = wire.history("room")["room"][0]
    assert set(plain) == {"message", "timetoken"}
    first, second = wire.history(
        "room",
        include_meta="true",
        include_uuid="true",
        include_message_type="true",
        include_custom_message_type="true",
    )["room"]
    assert first["meta"] == {"k": 1}
    assert (first["uuid"], first["message_type"], first["custom_message_type"]) == ("me", None, "my-type")
    assert (second["meta"], second["custom_message_type"]) == ("", None)


def test_a_message_past_its_ttl_is_not_shown(wire: Wire) -> None:
    wire.publish("room", "kept", ttl=1)
    wire.publish("room", "also kept", ttl=0)
    assert len(wire.history("room")["room"]) == 2
    assert wire.publish("room", 1, ttl="soon").status == 400


def test_history_can_be_off_unless_asked_for(start: Callable[..., Wire]) -> None:
    wire = start(store_by_default=False)
    wire.publish("room", 1)
    wire.publish("room", 2, store=1)
    assert [item["message"] for item in wire.history("room")["room"]] == [2]


def _counts(wire: Wire, channels: str, **query: object) -> dict[str, int]:
    reply = wire.get(f"/v3/history/sub-key/{wire.sub}/message-counts/{channels}", **query)
    assert reply.status == 200, reply
    counts: dict[str, int] = reply.json["channels"]
    return counts


def test_counts_are_from_the_timetoken_on(wire: Wire) -> None:
    tokens = _filled(wire, 10, "a")
    _filled(wire, 5, "b")
    assert _counts(wire, "a,b,c", timetoken=tokens[4]) == {"a": 6, "b": 5, "c": 0}
    assert _counts(wire, "a,b", channelsTimetoken=f"{tokens[9]},{tokens[0]}") == {"a": 1, "b": 5}
    assert _counts(wire, "a", timetoken=int(tokens[9]) + 1) == {"a": 0}


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"timetoken": "x"},
        {"channelsTimetoken": "1,2,3"},
        {"timetoken": 1, "channelsTimetoken": "1,2"},
        {"channelsTimetoken": "1,"},
    ],
)
def test_wrong_counts_arguments_get_the_real_answer(wire: Wire, query: dict[str, object]) -> None:
    reply = wire.get(f"/v3/history/sub-key/{wire.sub}/message-counts/a,b", **query)
    assert reply.json == {"status": 400, "error": True, "error_message": "Invalid Arguments", "channels": {}}


def test_unstored_messages_are_not_counted(wire: Wire) -> None:
    since = wire.handshake("room")
    wire.publish("room", 1, store=0)
    wire.publish("room", 2, kind="signal")
    wire.publish("room", 3)
    assert _counts(wire, "room", timetoken=since) == {"room": 1}
