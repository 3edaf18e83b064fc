import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.envelope import (
    MESSAGE_LIMIT,
    Event,
    EventTooLargeError,
    channel_fault,
    channels,
    encoded_size,
    fits,
    fitting_message,
    message,
    slim,
    time_sync,
)

GAME = "0b5ad3f0-8a3e-4b0e-9d8f-1f8f3b6a2c11"
EVENT = Event(
    event_id="e-1",
    game_id=GAME,
    type="phase_changed",
    user_id="system",
    occurred_at=datetime(2025, 6, 29, 12, 0, 0, 123456, tzinfo=UTC),
    request_id="r-1",
    data={"newPhase": "drawing", "previousPhase": "briefing"},
    seq=7,
    after=5,
)


def test_the_message_is_what_clients_read_and_what_we_add() -> None:
    assert message(EVENT, 1751198400123) == {
        "type": "phase_changed",
        "gameId": GAME,
        "userId": "system",
        "timestamp": 1751198400123,
        "version": "2.0.0",
        "data": {"newPhase": "drawing", "previousPhase": "briefing"},
        "eventId": "e-1",
        "seq": 7,
        "after": 5,
        "occurredAt": "2025-06-29T12:00:00.123Z",
        "requestId": "r-1",
    }


def test_marks_are_there_only_when_they_are_true() -> None:
    marked = message(replace(EVENT, replayed=True, truncated=True), 1)
    assert marked["replayed"] is True
    assert marked["truncated"] is True
    assert not {"replayed", "truncated"} & message(EVENT, 1).keys()


def test_an_event_of_no_game_has_no_place_in_an_order() -> None:
    built = message(replace(EVENT, type="test", game_id=None, seq=None, after=None), 1)
    assert built["gameId"] is None
    assert not {"seq", "after"} & built.keys()


def test_moments_are_told_in_utc() -> None:
    local = replace(EVENT, occurred_at=datetime(2025, 6, 29, 14, 0, tzinfo=timezone(timedelta(hours=2))))
    assert message(local, 1)["occurredAt"] == "2025-06-29T12:00:00.000Z"


def test_a_time_sync_is_ephemeral() -> None:
    built = time_sync(GAME, {"phase": "drawing", "timeRemaining": 3}, timestamp_ms=5, event_id="e-9")
    assert built["type"] == "server_timer_sync"
    assert built["timestamp"] == 5
    assert "seq" not in built


@pytest.mark.parametrize(
    ("type_", "user", "expected"),
    [
        ("phase_changed", "system", [f"game-{GAME}"]),
        ("vote_cast", "u", [f"game-{GAME}"]),
        ("player_joined", "u", [f"game-{GAME}", f"presence-{GAME}"]),
        ("player_left", "u", [f"game-{GAME}", f"presence-{GAME}"]),
        ("connection_status", "u", [f"game-{GAME}", f"presence-{GAME}"]),
        ("MATCH_FOUND", "u", [f"game-{GAME}", "user-u"]),
        ("MATCH_FOUND", "system", [f"game-{GAME}"]),
    ],
)
def test_channels_by_type(type_: str, user: str, expected: list[str]) -> None:
    assert list(channels(type_, GAME, user)) == expected
    assert all(channel_fault(channel) is None for channel in expected)


@pytest.mark.parametrize(
    "channel",
    ["", "a" * 93, "a,b", "a:b", "a*", "a/b", "a\\b", "a b", "a.b", "a\nb", "a\x7fb"],
)
def test_channel_ids_by_the_rules(channel: str) -> None:
    assert channel_fault(channel)


def test_the_longest_channel_is_allowed() -> None:
    assert channel_fault("a" * 92) is None


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=50), max_size=5), st.text(max_size=20))
def test_size_is_the_encoded_channel_and_json_plus_a_hundred(data: dict[str, str], channel: str) -> None:
    if any(0xD800 <= ord(c) <= 0xDFFF for c in channel):
        channel = "plain"
    encoded = quote(channel + json.dumps(data), safe="-_.!~*'()")
    assert encoded_size(channel, data) == len(encoded) + 100


def test_a_message_fits_up_to_the_very_byte() -> None:
    def padded(length: int) -> dict[str, object]:
        return {"p": "x" * length}

    room = MESSAGE_LIMIT - encoded_size("c", padded(0))
    assert encoded_size("c", padded(room)) == MESSAGE_LIMIT
    assert fits("c", padded(room))
    assert not fits("c", padded(room + 1))
    assert fits("c", padded(100))


def test_fitting_counts_a_channel_that_is_not_ascii() -> None:
    assert fits("ü", {"p": 1})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_json_has_no_size(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encoded_size("c", {"p": value})
    with pytest.raises(ValueError, match="JSON"):
        fits("c", {"p": value})


def test_slim_keeps_short_fields_only() -> None:
    large = replace(
        EVENT,
        data={"newPhase": "drawing", "prompt": "x" * 500, "winner": {"userId": "u"}, "results": [1] * 99},
    )
    assert slim(large).data == {"newPhase": "drawing", "winner": {"userId": "u"}}
    assert slim(large).truncated


@pytest.mark.parametrize(
    ("data", "kept", "truncated"),
    [
        ({"a": 1}, {"a": 1}, False),
        ({"a": 1, "b": "x" * 40_000}, {"a": 1}, True),
        ({f"key{n}": "x" * 100 for n in range(1000)}, {}, True),
    ],
)
def test_the_fullest_form_that_fits_is_sent(
    data: dict[str, object], kept: dict[str, object], truncated: bool
) -> None:
    built = fitting_message(replace(EVENT, data=data), ("game-x", "presence-x"), 1)
    assert built["data"] == kept
    assert built.get("truncated", False) is truncated
    assert built["seq"] == 7
    assert fits("presence-x", built)


def test_what_does_not_fit_even_without_data_is_too_large() -> None:
    with pytest.raises(EventTooLargeError, match="32768"):
        fitting_message(replace(EVENT, request_id="r" * 40_000), ("game-x",), 1)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=3000), max_size=30))
def test_whatever_the_data_the_message_fits(data: dict[str, str]) -> None:
    assert fits("game-x", fitting_message(replace(EVENT, data=data), ("game-x",), 1))
