import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.rate import TokenBucket, share


def test_a_relay_may_spend_the_share_of_its_lanes() -> None:
    assert share(100, 8, 32) == 25
    assert share(100, 0, 32) == 0
    assert share(None, 8, 32) is None


@pytest.mark.parametrize(("held", "lanes"), [(33, 32), (-1, 32), (0, 0)])
def test_an_impossible_share_is_refused(held: int, lanes: int) -> None:
    with pytest.raises(ValueError, match="impossible"):
        share(100, held, lanes)


def test_no_limit_never_waits() -> None:
    bucket = TokenBucket(None)
    assert [bucket.take(0) for _ in range(1000)] == [0.0] * 1000


def test_a_rate_of_nothing_grants_the_burst_and_then_never() -> None:
    bucket = TokenBucket(0, burst=2)
    assert [bucket.take(t) for t in (0, 0, 1000)] == [0, 0, math.inf]


def test_the_wait_told_is_exactly_long_enough() -> None:
    bucket = TokenBucket(10, burst=1)
    assert bucket.take(5.0) == 0
    wait = bucket.take(5.0)
    assert wait == pytest.approx(0.1)
    assert bucket.take(5.0 + wait * 0.9) > 0
    assert bucket.take(5.0 + wait) == 0


def test_more_than_the_burst_is_taken_from_a_full_bucket_and_repaid() -> None:
    bucket = TokenBucket(10, burst=2)
    assert bucket.take(0, tokens=5) == 0
    assert bucket.take(0) == pytest.approx(0.4)


def test_a_clock_that_steps_back_earns_nothing() -> None:
    bucket = TokenBucket(1, burst=1)
    assert bucket.take(100) == 0
    assert bucket.take(50) == pytest.approx(1)
    assert bucket.take(100.5) == pytest.approx(0.5)


def test_changing_the_rate_keeps_what_was_earned() -> None:
    bucket = TokenBucket(10, burst=10)
    bucket.take(0, tokens=10)
    bucket.set(1, 3, now=0.5)
    assert bucket.take(0.5, tokens=3) == 0
    assert bucket.take(0.5) == pytest.approx(1)
    bucket.set(None, 1, now=0.5)
    assert bucket.take(0.5) == 0
    bucket.set(1, 1, now=0.6)
    assert bucket.take(0.6) > 0


@pytest.mark.parametrize(("rate", "burst"), [(-1, 1), (math.inf, 1), (math.nan, 1), (1, 0.5), (1, math.inf)])
def test_impossible_settings_are_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        TokenBucket(rate, burst)


@given(
    rate=st.floats(0.1, 1000),
    burst=st.floats(1, 100),
    steps=st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_than_burst_plus_rate_times_time(rate: float, burst: float, steps: list[float]) -> None:
    bucket = TokenBucket(rate, burst)
    now, taken = 0.0, 0
    for step in steps:
        now += step
        while bucket.take(now) == 0 and taken < 100_000:
            taken += 1
        assert taken <= burst + rate * now + 1e-6
