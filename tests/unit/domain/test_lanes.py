from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.lanes import (
    LANES,
    SHUN_SECONDS,
    fair_share,
    lane_of,
    left_to_others,
    surplus,
    wanted,
)


def test_a_lane_is_the_last_five_bits_of_an_id() -> None:
    assert [lane_of(UUID(int=number)) for number in (0, 31, 32, 0xFF << 64 | 37)] == [0, 31, 0, 5]


def test_shares_are_even() -> None:
    assert [fair_share(n) for n in (0, 1, 2, 3, 32, 40)] == [32, 32, 16, 11, 1, 1]


@given(st.integers(1, 40))
def test_together_the_shares_cover_all_lanes(relays: int) -> None:
    assert fair_share(relays) * relays >= LANES
    assert (fair_share(relays) - 1) * relays < LANES


def test_what_is_too_much_is_given_up() -> None:
    assert surplus(range(32), 2) == list(range(16, 32))
    assert surplus(range(16), 2) == []
    assert surplus([], 2) == []


def test_what_was_given_up_just_now_is_left_to_others() -> None:
    held = set(range(16))
    given_up = {20: 100.0, 21: 100.0 - SHUN_SECONDS - 0.1}
    tried = wanted(held, given_up, now=100.0)
    assert tried == [lane for lane in range(16, 32) if lane != 20]
    assert left_to_others(held, given_up, now=100.0) == [20]
    assert 20 in wanted(held, given_up, now=100.0 + SHUN_SECONDS + 0.1)
