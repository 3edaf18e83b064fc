"""The HTTP around it: content type, CORS, methods, unknown paths, time, the control endpoint."""

from __future__ import annotations

import json

import pytest

from tests.integration.standin.wire import Wire


def test_time_is_one_number(wire: Wire) -> None:
    reply = wire.get("/time/0")
    (now,) = reply.json
    assert isinstance(now, int)
    assert len(str(now)) == 17


@pytest.mark.parametrize(
    "path",
    [
        "/time/0",
        "/publish/wrong/wrong/0/a/0/1",
        "/v2/subscribe/wrong/a/0",
        "/nowhere",
        "/",
        "/v3/history/sub-key/wrong/channel/a",
        "/v2/presence/sub-key/wrong",
        "/v1/push/x",
    ],
)
def test_every_answer_is_javascript_for_every_origin(wire: Wire, path: str) -> None:
    reply = wire.get(path)
    assert reply.headers["content-type"].startswith("text/javascript")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.json


def test_a_preflight_allows_what_a_browser_asks_for(wire: Wire) -> None:
    reply = wire.request(
        "OPTIONS",
        f"/publish/{wire.pub}/{wire.sub}/0/room/0?uuid=me",
        headers={
            "Origin": "https://example.org",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-encoding,content-type",
        },
    )
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-allow-headers"] == "*"
    assert "POST" in reply.headers["access-control-allow-methods"]


def test_unknown_paths_are_not_found(wire: Wire) -> None:
    reply = wire.get("/v2/presence/sub-key/sub-c-local/what/room")
    assert reply.status == 404
    assert reply.json["message"].startswith("Not found: '/v2/presence")


def test_methods_the_service_does_not_have_are_refused(wire: Wire) -> None:
    for method in ("PUT", "PATCH", "DELETE", "POST"):
        assert wire.request(method, f"/v2/subscribe/{wire.sub}/room/0").status == 405


def test_the_control_endpoint_is_closed_to_pages_in_a_browser(wire: Wire) -> None:
    preflight = wire.request("OPTIONS", "/_local/faults", headers={"Origin": "https://example.org"})
    assert "access-control-allow-origin" not in preflight.headers
    body = json.dumps({"kind": "hang"}).encode()
    simple = wire.request("POST", "/_local/faults", body, {"Content-Type": "text/plain"})
    assert simple.status == 400
    assert wire.get("/_local/faults").json == {"faults": []}


def test_the_record_can_be_read_in_pieces_and_waited_for(wire: Wire) -> None:
    for number in range(5):
        wire.publish("room", number)
    piece = wire.get("/_local/record?after=2&limit=2").json
    assert [entry["message"] for entry in piece["entries"]] == [2, 3]
    assert (piece["count"], piece["dropped"]) == (5, 0)
    assert wire.get("/_local/record", after=5).json["entries"] == []
    assert wire.get("/_local/record", after=4, wait=5).json["entries"][0]["message"] == 4


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/_local/record?after=x", None),
        ("GET", "/_local/record?limit=-1", None),
        ("DELETE", "/_local/faults/x", None),
        ("POST", "/_local/faults", {"kind": "nonsense"}),
        ("POST", "/_local/faults", {"kind": "hang", "nonsense": 1}),
        ("POST", "/_local/faults", {"kind": "hang", "share": "much"}),
        ("POST", "/_local/faults", {"kind": "hang", "operations": ["eat"]}),
        ("POST", "/_local/faults", ["hang"]),
        ("GET", "/_local/nonsense", None),
    ],
)
def test_the_control_endpoint_says_what_is_wrong(wire: Wire, method: str, path: str, body: object) -> None:
    text = None if body is None else json.dumps(body).encode()
    reply = wire.request(method, path, text, {"Content-Type": "application/json"})
    assert reply.status in (400, 404)
    assert reply.json["error"]
