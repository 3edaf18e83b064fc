import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.backoff import Backoff


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    backoff = Backoff(base=0.5, cap=4)
    assert [backoff.ceiling(n) for n in range(1, 7)] == [0.5, 1, 2, 4, 4, 4]


@given(
    attempt=st.integers(1, 100_000),
    drawn=st.floats(0, 1, exclude_max=True),
    base=st.floats(0.001, 10),
    factor=st.floats(1, 1000),
)
def test_full_jitter_lies_between_zero_and_the_ceiling(
    attempt: int, drawn: float, base: float, factor: float
) -> None:
    backoff = Backoff(base=base, cap=base * factor)
    assert 0 <= backoff.wait(attempt, lambda: drawn) <= backoff.ceiling(attempt) <= backoff.cap


def test_what_the_other_side_asks_is_waited_in_full_and_the_jitter_comes_on_top() -> None:
    backoff = Backoff(base=1, cap=8, longest_asked=30)
    assert backoff.wait(2, lambda: 0.5, asked=7) == 7 + 1
    assert backoff.wait(1, lambda: 0.0, asked=3600) == 30
    assert backoff.wait(1, lambda: 0.25, asked=0) == 0.25


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_impossible_bounds_are_refused(base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="backoff base"):
        Backoff(base=base, cap=cap)


def test_attempts_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="attempt 0"):
        Backoff().ceiling(0)
