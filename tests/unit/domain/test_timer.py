"""When a sweeper wakes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.timer import (
    FIRST_RETRY,
    LAG_PER_RANK,
    LONGEST_RETRY,
    LOOK_AHEAD,
    SHORTEST_SLEEP,
    SHORTEST_SLEEP_BEHIND,
    Pass,
    lag,
    retry_after,
    sleep_after,
    whole_look_pause,
)

NOTHING = Pass(full=False, locked=0, switched_off=False, next_in=None)


def test_with_nothing_ahead_it_looks_again_in_a_second() -> None:
    assert sleep_after(NOTHING, rank=0, locked_passes=0) == LOOK_AHEAD


def test_it_sleeps_until_exactly_the_next_deadline() -> None:
    assert sleep_after(Pass(False, 0, False, 0.25), rank=0, locked_passes=0) == 0.25
    assert sleep_after(Pass(False, 0, False, 60.0), rank=0, locked_passes=0) == LOOK_AHEAD


@pytest.mark.parametrize("next_in", [-5.0, 0.0, SHORTEST_SLEEP / 2])
def test_a_deadline_a_moment_away_is_slept_towards(next_in: float) -> None:
    assert sleep_after(Pass(False, 0, False, next_in), rank=0, locked_passes=0) == SHORTEST_SLEEP


def test_each_sweeper_leaves_the_one_before_it_some_time() -> None:
    assert [lag(rank) for rank in range(3)] == [0.0, LAG_PER_RANK, 2 * LAG_PER_RANK]
    second = sleep_after(Pass(False, 0, False, 0.1), rank=1, locked_passes=0)
    assert second == pytest.approx(0.1 + LAG_PER_RANK)


def test_a_sweeper_behind_others_does_not_look_after_each_of_their_games() -> None:
    assert sleep_after(Pass(False, 0, False, -LAG_PER_RANK), rank=1, locked_passes=0) == SHORTEST_SLEEP_BEHIND
    assert SHORTEST_SLEEP_BEHIND < LAG_PER_RANK


def test_a_full_batch_is_followed_at_once() -> None:
    assert sleep_after(Pass(True, 3, False, 0.5), rank=1, locked_passes=4) == 0.0


def test_switched_off_it_only_looks_whether_that_has_ended() -> None:
    assert sleep_after(Pass(True, 1, True, 0.0), rank=0, locked_passes=1) == LOOK_AHEAD


def test_a_locked_game_is_tried_again_after_5_10_20_20_ms() -> None:
    assert [retry_after(passes) for passes in (1, 2, 3, 4, 1000)] == [
        FIRST_RETRY,
        2 * FIRST_RETRY,
        4 * FIRST_RETRY,
        LONGEST_RETRY,
        LONGEST_RETRY,
    ]
    assert sleep_after(Pass(False, 1, False, 0.5), rank=0, locked_passes=2) == 2 * FIRST_RETRY


def test_a_locked_game_delays_no_deadline() -> None:
    assert sleep_after(Pass(False, 1, False, 0.002), rank=0, locked_passes=9) == 0.002


def test_looks_at_everything_take_a_bounded_share_of_the_time() -> None:
    assert whole_look_pause(0.001) == LOOK_AHEAD
    assert whole_look_pause(0.2) == pytest.approx(4.0)


@given(
    full=st.booleans(),
    locked=st.integers(0, 500),
    switched_off=st.booleans(),
    next_in=st.none() | st.floats(-3600, 3600),
    rank=st.integers(0, 3),
    locked_passes=st.integers(1, 10**6),
)
def test_no_sleep_is_longer_than_the_look_ahead(
    full: bool, locked: int, switched_off: bool, next_in: float | None, rank: int, locked_passes: int
) -> None:
    swept = Pass(full, locked, switched_off, next_in)
    assert 0 <= sleep_after(swept, rank=rank, locked_passes=locked_passes) <= LOOK_AHEAD
