"""Publish, fire and signal on the wire: what is accepted, what is refused and how."""

from __future__ import annotations

import gzip
import json
import zlib
from bisect import bisect_right
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from sketchy_orchestration.local.pubnub.limits import MESSAGE_BYTES, message_size
from tests.integration.standin.wire import Wire


def _post(wire: Wire, body: bytes, encoding: str | None = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    if encoding is not None:
        headers["Content-Encoding"] = encoding
    reply = wire.request("POST", f"/publish/{wire.pub}/{wire.sub}/0/room/0?uuid=me", body, headers)
    return reply.status, reply.json


def test_a_publish_answers_with_a_timetoken_of_seventeen_digits(wire: Wire) -> None:
    reply = wire.publish("room", {"a": 1})
    assert reply.status == 200
    assert reply.json[:2] == [1, "Sent"]
    assert len(reply.json[2]) == 17
    assert reply.json[2].isdigit()


def test_timetokens_are_unique_and_rise(wire: Wire) -> None:
    tokens = [int(wire.publish("room", number).json[2]) for number in range(50)]
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("message", [1, "text", None, True, [1, [2]], {"ü": "/?&%"}, "", {}])
def test_any_json_comes_through_unchanged(wire: Wire, message: object) -> None:
    since = wire.handshake("room")
    assert wire.publish("room", message).status == 200
    (heard,) = wire.subscribe("room", since).json["m"]
    assert heard["d"] == message
    assert wire.history("room")["room"][0]["message"] == message


@pytest.mark.parametrize(
    ("label", "pack"),
    [
        (None, bytes),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("gzip", zlib.compress),  # the Python SDK's mislabelled bytes
        ("deflate", gzip.compress),
        (None, gzip.compress),
        ("deflate", lambda data: zlib.compress(data, wbits=-15)),
        ("gzip", bytes),
    ],
)
def test_a_posted_body_is_read_whatever_its_label(
    wire: Wire, label: str | None, pack: Callable[[bytes], bytes]
) -> None:
    status, answer = _post(wire, pack(json.dumps({"n": 1}).encode()), label)
    assert (status, answer[1]) == (200, "Sent")
    assert wire.pubnub.record()[0].message == {"n": 1}


@pytest.mark.parametrize("body", [b"{", b"", b"NaN", b'{"a":Infinity}', b"\xff", b"1 2", b"[" * 5_000])
def test_what_is_not_json_is_refused(wire: Wire, body: bytes) -> None:
    status, answer = _post(wire, body)
    assert (status, answer[:2]) == (400, [0, "Invalid JSON"])
    assert wire.pubnub.record() == []


def test_a_body_that_unpacks_to_too_much_is_refused(wire: Wire) -> None:
    status, answer = _post(wire, gzip.compress(b'"' + b"a" * 50_000_000 + b'"'), "gzip")
    assert (status, answer[0]) == (400, 0)


@pytest.mark.parametrize("character", ["a", "ü", '"', "{"])
def test_the_size_limit_is_pubnubs_formula(wire: Wire, character: str) -> None:
    def message(characters: int) -> bytes:
        return json.dumps(character * characters, ensure_ascii=False).encode()

    fits = (
        bisect_right(range(MESSAGE_BYTES), MESSAGE_BYTES, key=lambda n: message_size("room", message(n))) - 1
    )
    assert _post(wire, message(fits))[0] == 200
    status, answer = _post(wire, message(fits + 1))
    assert (status, answer[:2]) == (400, [0, "Message Too Large"])


def test_the_largest_message_also_fits_into_a_get(wire: Wire) -> None:
    text = "a" * (MESSAGE_BYTES - 100 - len("room") - 6)
    assert wire.publish("room", text).status == 200
    assert wire.publish("room", text + "a").json[1] == "Message Too Large"


def test_a_line_no_server_would_take_is_refused_as_the_service_does(wire: Wire) -> None:
    reply = wire.get(f"/publish/{wire.pub}/{wire.sub}/0/room/0/%22{'a' * 70_000}%22")
    assert reply.status == 414
    assert reply.json["message"] == "Request URI Too Long"


@pytest.mark.parametrize("kind", ["publish", "signal"])
def test_wrong_keys_get_the_real_answer(wire: Wire, kind: str) -> None:
    for path in (f"/{kind}/wrong/{wire.sub}/0/room/0/1", f"/{kind}/{wire.pub}/wrong/0/room/0/1"):
        reply = wire.get(path)
        assert reply.status == 400
        assert reply.json[:2] == [0, "Invalid Key"]
        assert len(reply.json[2]) == 17


@pytest.mark.parametrize(
    "channel", ["a,b", "a b", "a:b", "a*", "a/b", "a\\b", "a\n", "x" * 93, "a.*", "a-pnpres"]
)
def test_names_no_channel_has_are_refused(wire: Wire, channel: str) -> None:
    assert wire.publish(channel, 1).status == 400
    assert wire.publish("x" * 92, 1).status == 200


def test_a_signal_is_heard_as_one_but_never_stored(wire: Wire) -> None:
    since = wire.handshake("room")
    assert wire.publish("room", "s" * 62, kind="signal", uuid="me").status == 200
    (heard,) = wire.subscribe("room", since).json["m"]
    assert (heard["e"], heard["d"], heard["i"]) == (1, "s" * 62, "me")
    assert wire.history("room") == {}
    assert wire.publish("room", "s" * 63, kind="signal").json[:2] == [0, "Signal size too large"]


def test_a_fire_is_accepted_but_nobody_hears_it(wire: Wire) -> None:
    since = wire.handshake("room")
    assert wire.publish("room", "fired", store=0, norep=1).json[1] == "Sent"
    assert wire.publish("room", "published").status == 200
    assert [heard["d"] for heard in wire.subscribe("room", since).json["m"]] == ["published"]
    assert [entry.operation for entry in wire.pubnub.record()] == ["fire", "publish"]
    assert [item["message"] for item in wire.history("room")["room"]] == ["published"]


def test_not_replicated_but_stored_is_in_history_only(wire: Wire) -> None:
    since = wire.handshake("room")
    wire.publish("room", "hidden", norep="true", store=1)
    wire.publish("room", "seen")
    assert [heard["d"] for heard in wire.subscribe("room", since).json["m"]] == ["seen"]
    assert [item["message"] for item in wire.history("room")["room"]] == ["hidden", "seen"]


def test_meta_and_custom_message_type_reach_the_subscriber(wire: Wire) -> None:
    since = wire.handshake("room")
    wire.publish("room", 1, meta='{"k":[1]}', custom_message_type="my-type_1", uuid="me")
    (heard,) = wire.subscribe("room", since).json["m"]
    assert (heard["u"], heard["cmt"], heard["i"]) == ({"k": [1]}, "my-type_1", "me")


@pytest.mark.parametrize("given", ["ab", "x" * 51, "pn_mine", "pn-mine", "-mine", "my type"])
def test_a_custom_message_type_the_service_would_not_take_is_refused(wire: Wire, given: str) -> None:
    assert wire.publish("room", 1, custom_message_type=given).status == 400


def test_meta_must_be_json(wire: Wire) -> None:
    assert wire.publish("room", 1, meta="{").json[:2] == [0, "Invalid JSON"]


def test_store_zero_is_heard_but_not_kept(wire: Wire) -> None:
    since = wire.handshake("room")
    wire.publish("room", 1, store=0)
    wire.publish("room", 2, store=1)
    assert [heard["d"] for heard in wire.subscribe("room", since).json["m"]] == [1, 2]
    assert [item["message"] for item in wire.history("room")["room"]] == [2]


def test_a_publish_rate_answers_429_with_retry_after(start: Callable[..., Wire]) -> None:
    wire = start(publish_rate=5)
    replies = [wire.publish("room", number) for number in range(12)]
    refused = [reply for reply in replies if reply.status == 429]
    assert len(replies) - len(refused) >= 5
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1


def test_the_record_has_everything_accepted(wire: Wire) -> None:
    timetoken = wire.publish("room", {"a": 1}, uuid="me", meta='"m"', custom_message_type="kind").json[2]
    wire.publish("room", "{", kind="publish", meta="{")
    (entry,) = wire.pubnub.record()
    assert entry.as_json() == {
        "index": 0,
        "operation": "publish",
        "channel": "room",
        "timetoken": timetoken,
        "message": {"a": 1},
        "uuid": "me",
        "meta": "m",
        "custom_message_type": "kind",
        "stored": True,
        "fault": None,
    }


def test_a_slash_the_sender_did_not_encode_belongs_to_the_message(wire: Wire) -> None:
    assert wire.get(f"/publish/{wire.pub}/{wire.sub}/0/room/0/%22a/b%22").status == 200
    assert wire.pubnub.record()[0].message == "a/b"


def test_a_channel_may_have_any_other_character(wire: Wire) -> None:
    name = "zimmer-ü|#?&=%20'()~"[:20].replace(" ", "")
    since = wire.handshake(quote(name, safe=""))
    assert wire.publish(name, 1).status == 200
    assert wire.subscribe(quote(name, safe=""), since).json["m"][0]["c"] == name
