"""The stand-in's small parts: limits, percent-decoding, timetokens, settings, faults, the record."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.local.pubnub import Fault, FaultKind, StandInConfig, StandInError, limits
from sketchy_orchestration.local.pubnub.calls import percent_decoded
from sketchy_orchestration.local.pubnub.faults import Faults
from sketchy_orchestration.local.pubnub.message import Message
from sketchy_orchestration.local.pubnub.record import Record
from sketchy_orchestration.local.pubnub.timetoken import TimetokenClock


@given(st.one_of(st.text(st.sampled_from("%0Aa9fF=_.~ü{}"), max_size=30), st.binary(max_size=40).map(quote)))
def test_percent_decoding_is_the_standard_librarys(text: str) -> None:
    assert percent_decoded(text) == unquote_to_bytes(text)


def test_timetokens_rise_even_when_the_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    clock = TimetokenClock()
    assert [clock.next() for _ in range(3)] == [17000000000000000, 17000000000000001, 17000000000000002]


@pytest.mark.parametrize(
    ("channel", "text", "size"),
    [
        ("a", '"b"', 1 + 3 + 1 + 3 + 100),  # each quotation mark is %22
        ("a", '{"n":1}', 1 + 3 + 3 + 1 + 3 + 3 + 1 + 3 + 100),
        ("ü", "1", 6 + 1 + 100),
        ("a-._!~*'()", "1", 11 + 100),  # what encodeURIComponent leaves alone
        ("a", '"€"', 1 + 3 + 9 + 3 + 100),
    ],
)
def test_message_size_is_what_javascript_would_count(channel: str, text: str, size: int) -> None:
    assert limits.message_size(channel, text.encode()) == size


@given(st.text(max_size=92), st.integers(0, 40_000))
def test_the_short_cut_never_lets_a_large_message_pass(channel: str, length: int) -> None:
    payload = b'"' + b"a" * length + b'"'
    name = channel.encode("utf-8", "replace").decode()
    assert limits.too_large(name, payload) == (limits.message_size(name, payload) > limits.MESSAGE_BYTES)


@given(st.binary(max_size=300), st.sampled_from([gzip.compress, zlib.compress]))
def test_unpacking_goes_by_the_bytes(data: bytes, pack: Callable[[bytes], bytes]) -> None:
    for label in ("gzip", "deflate", None):
        assert limits.unpack(pack(data), label) == data


def test_a_cut_off_body_is_refused() -> None:
    with pytest.raises(ValueError, match="cut off"):
        limits.unpack(gzip.compress(b"x" * 1000)[:20], "gzip")


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 70_000},
        {"publish_key": ""},
        {"subscribe_key": "a/b"},
        {"secret_key": ""},
        {"enforce_access": True},
        {"long_poll_seconds": 0},
        {"buffer_messages": 0},
        {"log_messages": 0},
        {"publish_rate": -1.0},
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any]) -> None:
    with pytest.raises(StandInError, match=next(iter(settings))):
        StandInConfig(**settings)


def test_the_secret_key_is_never_shown() -> None:
    assert "hidden" not in repr(StandInConfig(secret_key="hidden"))


def test_faults_strike_the_same_requests_again() -> None:
    def struck(seed: int) -> list[tuple[int, float]]:
        faults = Faults(seed)
        faults.on(Fault(FaultKind.garbage, share=0.5, jitter=1))
        found = [faults.strike("publish", [f"room-{number}"]) for number in range(100)]
        return [(number, hit[0].delay) for number, hit in enumerate(found) if hit]

    assert struck(7) == struck(7)
    assert struck(7) != struck(8)


def test_one_request_is_broken_once_but_may_also_be_late_and_doubled() -> None:
    faults = Faults()
    for kind in (FaultKind.latency, FaultKind.hang, FaultKind.garbage, FaultKind.duplicate):
        faults.on(Fault(kind))
    kinds = [hit.fault.kind for hit in faults.strike("publish", ["room"])]
    assert kinds == [FaultKind.latency, FaultKind.hang, FaultKind.duplicate]


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_fault_survives_the_way_over_json(kind: FaultKind) -> None:
    fault = Fault(kind, operations=("publish",), channels="room-*", share=0.5, seconds=3.0, times=2)
    assert Fault.from_json(json.loads(json.dumps(fault.as_json()))) == fault


def _record(config: StandInConfig, count: int) -> Record:
    record = Record(config)
    for number in range(count):
        record.add("publish", Message(number, "room", json.dumps({"n": number}).encode()), None)
    return record


def test_the_record_keeps_the_newest_and_counts_all() -> None:
    record = _record(StandInConfig(record_messages=10), 25)
    assert (record.count, record.dropped) == (25, 15)
    assert [entry.index for entry in record.since()] == list(range(15, 25))
    assert [entry.index for entry in record.since(20, 3)] == [20, 21, 22]


async def test_the_file_has_what_memory_dropped(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "accepted.jsonl"
    record = _record(StandInConfig(record_messages=5, record_file=file), 50)
    record.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["message"]["n"] for line in lines] == list(range(50))


async def test_the_file_is_begun_anew_when_it_is_full(tmp_path: Path) -> None:
    file = tmp_path / "accepted.jsonl"
    record = Record(StandInConfig(record_file=file, record_file_bytes=2_000))
    rotated = file.with_name("accepted.jsonl.1")
    async with asyncio.timeout(10):
        while not rotated.exists():
            record.add("publish", Message(1, "room", b'"' + b"x" * 500 + b'"'), None)
            await asyncio.sleep(0.02)
    record.close()
    assert file.exists()


def test_a_record_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StandInError, match="cannot write the record"):
        Record(StandInConfig(record_file=tmp_path / "file" / "below"))
