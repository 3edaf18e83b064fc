"""Requests nobody should send: always an answer like PubNub's and soon; never a 5xx, never a hang."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig

_ANSWER_SECONDS = 5
_FUZZ = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)


@pytest.fixture(scope="module", params=[False, True], ids=["open", "enforced"])
def target(request: pytest.FixtureRequest) -> Iterator[LocalPubNub]:
    config = StandInConfig(
        long_poll_seconds=0.01,
        secret_key="secret",
        enforce_access=request.param,
        publish_key="pub",
        subscribe_key="sub",
        log_messages=500,
    )
    with LocalPubNub(config) as pubnub:
        yield pubnub


def _send(target: LocalPubNub, data: bytes, *, end: bool = False) -> tuple[int, dict[str, str], bytes] | None:
    """Status, headers and body of the first answer; None when the connection was closed without one.

    Raises TimeoutError when the server neither answers nor closes.
    """
    host, port = target.origin.split(":")
    with closing(socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS)) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it had heard enough; the answer may be there
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while True:
                head, ended, body = received.partition(b"\r\n\r\n")
                if ended:
                    lines = head.decode("latin-1").split("\r\n")
                    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
                    if len(body) >= int(headers["content-length"]):
                        return int(lines[0].split()[1]), headers, body
                more = connection.recv(65536)
                if not more:
                    return None
                received += more
        except ConnectionResetError:
            return None


def _check(target: LocalPubNub, data: bytes, *, may_close: bool = False) -> None:
    answer = _send(target, data, end=may_close)
    if answer is None:
        assert may_close, f"closed without an answer: {data[:300]!r}"
        return
    status, headers, body = answer
    assert 200 <= status < 500, f"{status} for {data[:300]!r}: {body[:300]!r}"
    if b"/_local/" not in data:
        assert headers["content-type"].startswith("text/javascript")
    if body:
        json.loads(body)


def _request(target: str, method: str = "GET", body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


# Anything that may stand in a request line without ending it.
_line = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f\x85\xa0"), max_size=200
)
_encoded = st.binary(max_size=60).map(lambda data: "".join(f"%{byte:02X}" for byte in data))
_segment = st.one_of(
    st.sampled_from(
        [
            "",
            "pub",
            "sub",
            "0",
            "room",
            "a,b",
            ",",
            ",,,",
            "room.*",
            "room-pnpres",
            "%2C",
            "%",
            "%zz",
            "%00",
            "..",
            "*",
        ]
    ),
    st.sampled_from(
        ["channel", "uuid", "heartbeat", "leave", "data", "grant", "message-counts", "sub-key", "x" * 93]
    ),
    st.sampled_from(["1", "NaN", "%7B", "%22%22", "%5B%5D", "%FF", "null", "9" * 400, "-0", "%5B" * 2000]),
    _encoded,
    _line.map(lambda text: text.replace("?", "").replace("#", "")),
)
_prefix = st.sampled_from(
    [
        "/publish/pub/sub/0",
        "/signal/pub/sub/0",
        "/publish",
        "/v2/subscribe/sub",
        "/v2/presence/sub-key/sub",
        "/v3/history/sub-key/sub",
        "/v3/pam/sub",
        "/time",
        "/_local",
        "",
        "/v2",
        "/v3",
        "/v1",
    ]
)
_value = st.one_of(
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "1",
            "17000000000000000",
            "9" * 18,
            "9" * 40,
            "1.5",
            "NaN",
            "true",
            "%7B%7D",
            "%ff",
            "a,b",
            "%",
            "٣",
        ]
    ).map(lambda text: text if text.isascii() else "%D9%A3"),
    _encoded,
    st.text(st.sampled_from("abc09=&%+-_.~,{}[]\"'"), max_size=40),
)
_PARAMETERS = [
    *(
        "tt",
        "tr",
        "heartbeat",
        "state",
        "channel-group",
        "filter-expr",
        "uuid",
        "auth",
        "signature",
        "timestamp",
    ),
    *("max", "start", "end", "timetoken", "limit", "offset", "channelsTimetoken", "include_meta", "after"),
    *("disable_uuids", "store", "ttl", "meta", "custom_message_type", "norep"),
]
_query = st.dictionaries(
    st.sampled_from(_PARAMETERS),
    _value,
    max_size=6,
)
_paths = st.builds(
    lambda prefix, segments, query: (
        "/".join([prefix, *segments]) + "?" + "&".join(f"{name}={value}" for name, value in query.items())
    ),
    _prefix,
    st.lists(_segment, max_size=6),
    _query,
)


@_FUZZ
@given(_paths)
def test_paths_and_queries_that_nearly_make_sense(target: LocalPubNub, path: str) -> None:
    _check(target, _request(path))


@_FUZZ
@given(_line)
def test_request_lines_that_make_none(target: LocalPubNub, text: str) -> None:
    _check(target, _request("/" + text))


@_FUZZ
@given(
    st.sampled_from(
        ["/publish/pub/sub/0/room/0", "/v3/pam/sub/grant", "/_local/faults", "/v2/subscribe/sub/room/0"]
    ),
    st.one_of(
        st.binary(max_size=400),
        st.sampled_from(
            [
                b"\x1f\x8b",
                b"\x78\x9c",
                b"\x1f\x8b" + b"\0" * 50,
                b"{}",
                b"[" * 30_000,
                b'"\\ud800"',
                b"0" * 9999,
            ]
        ),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=4),
                st.dictionaries(
                    st.one_of(
                        st.sampled_from(
                            ["ttl", "permissions", "resources", "channels", "meta", "uuid", "kind", "share"]
                        ),
                        st.text(max_size=5),
                    ),
                    inner,
                    max_size=4,
                ),
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.sampled_from(["gzip", "deflate", "br", "identity", "nonsense", ""]),
    st.sampled_from(["application/json", "text/plain", "", "application/json; charset=x"]),
)
def test_bodies(target: LocalPubNub, path: str, body: bytes, encoding: str, kind: str) -> None:
    headers = [f"Content-Encoding: {encoding}"] if encoding else []
    _check(target, _request(path, "POST", body, f"Content-Type: {kind}", *headers))
    target.faults.off()


@_FUZZ
@given(st.binary(min_size=1, max_size=300))
def test_what_is_not_http(target: LocalPubNub, data: bytes) -> None:
    _check(target, data + b"\r\n\r\n", may_close=True)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /publish/pub/sub/0/room/0 HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /publish/pub/sub/0/room/0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /time/0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
        b"GET /time/0 HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
        b"GET /time/0 HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"GET /time/0 HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://elsewhere/time/0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /time/0 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"GET /time/0 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
    ],
    ids=lambda data: data[:40].decode(),
)
def test_http_of_the_worst_kind(target: LocalPubNub, data: bytes) -> None:
    _check(target, data)


@pytest.mark.parametrize("size", [200_000, 300_000, 2_000_000, 20_000_000])
def test_bodies_far_too_large(target: LocalPubNub, size: int) -> None:
    _check(target, _request("/publish/pub/sub/0/room/0", "POST", b'"' + b"a" * size + b'"'), may_close=True)
    chunk = b"%x\r\n" % 100_000 + b"a" * 100_000 + b"\r\n"
    head = b"POST /publish/pub/sub/0/room/0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    _check(target, head + chunk * (size // 100_000) + b"0\r\n\r\n", may_close=True)


def test_after_all_this_it_still_works(target: LocalPubNub) -> None:
    stats = target.stats()
    assert [status for status in stats["statuses"] if int(status) >= 500] == []
    answer = _send(target, _request("/time/0"))
    assert answer is not None
    assert answer[0] == 200
