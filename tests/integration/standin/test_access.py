"""Access Manager: signatures checked, tokens granted, enforced, revoked."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import cbor2
import pytest

from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig
from tests.integration.standin.wire import Reply, Wire

SECRET = "sec-c-local"


@pytest.fixture
def wire() -> Iterator[Wire]:
    with LocalPubNub(StandInConfig(secret_key=SECRET, enforce_access=True)) as pubnub:
        yield Wire(pubnub)


def _signed(wire: Wire, method: str, path: str, body: bytes = b"", **query: object) -> Reply:
    """A version 2 signature, made by the rule in PubNub's documentation and not by the code under test."""
    query.setdefault("timestamp", int(time.time()))
    pairs = "&".join(f"{name}={quote(str(query[name]), safe='')}" for name in sorted(query))
    text = f"{method}\n{wire.pub}\n{path}\n{pairs}\n".encode() + body
    digest = base64.urlsafe_b64encode(hmac.digest(SECRET.encode(), text, "sha256")).decode().rstrip("=")
    headers = {"Content-Type": "application/json"} if body else {}
    return wire.request(method, f"{path}?{pairs}&signature=v2.{digest}", body or None, headers)


def _grant(wire: Wire, minutes: Any = 5, uuid: str | None = None, **permissions: Any) -> Reply:
    content: dict[str, Any] = {"meta": {}, **permissions}
    if uuid is not None:
        content["uuid"] = uuid
    body = json.dumps({"ttl": minutes, "permissions": content}).encode()
    return _signed(wire, "POST", f"/v3/pam/{wire.sub}/grant", body)


def _token(wire: Wire, channels: dict[str, int], **more: Any) -> str:
    reply = _grant(wire, resources={"channels": channels}, **more)
    assert reply.status == 200, reply
    token: str = reply.json["data"]["token"]
    return token


def test_a_token_is_the_cbor_the_service_issues(wire: Wire) -> None:
    token = _token(wire, {"room": 3}, uuid="me", patterns={"channels": {"^x-.*$": 1}})
    content = cbor2.loads(base64.urlsafe_b64decode(token))
    assert list(content) == [b"v", b"t", b"ttl", b"res", b"pat", b"meta", b"uuid", b"sig"]
    assert (content[b"v"], content[b"ttl"], content[b"uuid"]) == (2, 5, "me")
    assert content[b"res"][b"chan"] == {"room": 3}
    assert content[b"pat"][b"chan"] == {"^x-.*$": 1}
    assert len(content[b"sig"]) == 32


def test_without_token_or_signature_everything_is_forbidden(wire: Wire) -> None:
    reply = wire.publish("room", 1)
    assert reply.status == 403
    assert reply.json == {
        "message": "Forbidden",
        "payload": {"channels": ["room"]},
        "error": True,
        "service": "Access Manager",
        "status": 403,
    }
    assert wire.subscribe("a,b").json["payload"] == {"channels": ["a", "b"]}
    assert wire.get(f"/v3/history/sub-key/{wire.sub}/channel/room").status == 403
    assert wire.get(f"/v2/presence/sub-key/{wire.sub}/channel/room").status == 403
    assert wire.get(f"/v2/presence/sub-key/{wire.sub}").status == 403
    assert wire.get("/time/0").status == 200
    assert wire.get(f"/v2/presence/sub-key/{wire.sub}/channel/room/leave?uuid=me").status == 200
    assert wire.where_now("me") == []


def test_a_token_allows_what_it_says_and_no_more(wire: Wire) -> None:
    token = _token(wire, {"readable": 1, "writable": 2})
    assert wire.publish("writable", 1, auth=token).status == 200
    assert wire.publish("readable", 1, auth=token).status == 403
    assert wire.subscribe("readable", auth=token).status == 200
    denied = wire.subscribe("readable,writable", auth=token)
    assert denied.json["payload"] == {"channels": ["writable"]}
    assert wire.subscribe("readable,readable-pnpres", auth=token).json["payload"] == {
        "channels": ["readable-pnpres"]
    }


def test_patterns_are_regular_expressions(wire: Wire) -> None:
    token = _grant(wire, patterns={"channels": {"^room-[0-9]+$": 3}}).json["data"]["token"]
    assert wire.publish("room-12", 1, auth=token).status == 200
    assert wire.publish("room-x", 1, auth=token).status == 403


def test_a_token_for_one_user_serves_no_other(wire: Wire) -> None:
    token = _token(wire, {"room": 3}, uuid="me")
    assert wire.publish("room", 1, auth=token, uuid="me").status == 200
    assert wire.publish("room", 1, auth=token, uuid="you").status == 403
    assert wire.publish("room", 1, auth=token).status == 403


def test_a_revoked_token_is_worth_nothing(wire: Wire) -> None:
    token = _token(wire, {"room": 3})
    assert wire.publish("room", 1, auth=token).status == 200
    path = f"/v3/pam/{wire.sub}/grant/{quote(token, safe='')}"
    assert _signed(wire, "DELETE", path).json == {
        "data": {"message": "Success"},
        "service": "Access Manager",
        "status": 200,
    }
    refused = wire.publish("room", 1, auth=token)
    assert (refused.status, refused.json["message"]) == (403, "Token is revoked")


def test_an_expired_token_is_worth_nothing(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    token = _token(wire, {"room": 3}, minutes=1)
    later = time.time() + 61
    monkeypatch.setattr("sketchy_orchestration.local.pubnub.access.time.time", lambda: later)
    refused = wire.publish("room", 1, auth=token)
    assert (refused.status, refused.json["message"]) == (403, "Token is expired.")


def test_nobody_else_can_mint_or_change_a_token(wire: Wire) -> None:
    token = _token(wire, {"room": 1})
    content = cbor2.loads(base64.urlsafe_b64decode(token))
    content[b"res"][b"chan"]["room"] = 3
    forged = base64.urlsafe_b64encode(cbor2.dumps(content)).decode()
    for bad in (forged, token[:-8], "x", "%00", token + token, "qEF2AkF0"):
        refused = wire.publish("room", 1, auth=bad)
        assert refused.status == 403, bad
        assert refused.json["service"] == "Access Manager"


def test_a_signature_allows_everything(wire: Wire) -> None:
    path = f"/publish/{wire.pub}/{wire.sub}/0/room/0/1"
    assert _signed(wire, "GET", path, uuid="me").json[1] == "Sent"
    assert _signed(wire, "GET", f"/v2/presence/sub-key/{wire.sub}").status == 200


def test_a_wrong_signature_is_refused_even_where_none_is_needed(start: Callable[..., Wire]) -> None:
    wire = start(secret_key=SECRET)
    now = int(time.time())
    assert wire.publish("room", 1).status == 200
    wrong = wire.publish("room", 1, timestamp=now, signature="v2.wrong")
    assert (wrong.status, wrong.json["message"]) == (403, "Signature does not match")
    assert wire.publish("room", 1, timestamp=now, signature="wrong").status == 403
    old = _signed(wire, "GET", f"/publish/{wire.pub}/{wire.sub}/0/room/0/1", timestamp=now - 120)
    assert (old.status, old.json["message"]) == (400, "Invalid Timestamp")


def test_without_a_secret_key_signatures_mean_nothing_and_nothing_is_granted(
    start: Callable[..., Wire],
) -> None:
    wire = start()
    assert wire.publish("room", 1, timestamp=1, signature="v2.wrong").status == 200
    assert _grant(wire, resources={"channels": {"room": 1}}).status == 403


@pytest.mark.parametrize("minutes", [0, 43_201, -1, "5", 1.5, None, True])
def test_a_wrong_ttl_gets_the_real_answer(wire: Wire, minutes: Any) -> None:
    reply = _grant(wire, minutes, resources={"channels": {"room": 1}})
    assert reply.status == 400
    assert reply.json["error"]["message"] == "Invalid ttl"
    assert reply.json["error"]["details"][0]["message"] == "Range should be 1 to 43200 minute(s)."


@pytest.mark.parametrize(
    "permissions",
    [
        {},
        {"resources": {"channels": {"room": 0}}},
        {"resources": {"channels": {"room": "read"}}},
        {"resources": {"channels": {"room": 256}}},
        {"resources": {"channels": []}},
        {"resources": []},
        {"patterns": {"channels": {"(": 1}}},
        {"resources": {"channels": {"room": 1}}, "meta": {"nested": {}}},
        {"resources": {"channels": {"room": 1}}, "uuid": 5},
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(wire: Wire, permissions: dict[str, Any]) -> None:
    reply = _grant(wire, **permissions)
    assert reply.status == 400
    assert reply.json["error"]["source"] == "grant"


def test_a_grant_needs_json_its_type_a_signature_and_the_key(wire: Wire) -> None:
    path = f"/v3/pam/{wire.sub}/grant"
    assert _signed(wire, "POST", path, b"{").json["error"]["message"] == "Invalid JSON"
    unsigned = wire.request("POST", path, b"{}", {"Content-Type": "application/json"})
    assert unsigned.status == 403
    assert _signed(wire, "POST", "/v3/pam/wrong/grant", b"{}").json["message"] == "Invalid Subscribe Key"
    assert _signed(wire, "GET", path).status == 404


def test_revoking_what_is_no_token_is_refused(wire: Wire) -> None:
    reply = _signed(wire, "DELETE", f"/v3/pam/{wire.sub}/grant/nonsense")
    assert (reply.status, reply.json["error"]["source"]) == (400, "revoke")
