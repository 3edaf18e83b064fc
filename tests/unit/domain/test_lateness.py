"""The histogram of latenesses against the values themselves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.lateness import GROWTH, SMALLEST_MS, Histogram, bucket_of, upper_bound

VALUES = st.lists(st.floats(0, 10**6), min_size=1, max_size=200)


def of(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


def test_without_values_everything_is_nothing() -> None:
    assert (Histogram().total, Histogram().percentile(0.99), Histogram().largest) == (0, 0.0, 0.0)


def test_the_smallest_share_a_bucket() -> None:
    assert bucket_of(0) == bucket_of(SMALLEST_MS) == 0
    assert bucket_of(SMALLEST_MS * 1.01) == 1


@given(st.floats(SMALLEST_MS * 1.001, 10**7))
def test_a_value_lies_within_its_bucket(value: float) -> None:
    bucket = bucket_of(value)
    assert upper_bound(bucket - 1) * (1 - 1e-9) <= value <= upper_bound(bucket) * (1 + 1e-9)


@given(VALUES, st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_percentile_is_at_most_a_tenth_too_high_and_never_too_low(
    values: list[float], share: float
) -> None:
    true = sorted(values)[math.ceil(len(values) * share) - 1]
    said = of(values).percentile(share)
    assert true * (1 - 1e-9) <= said or said == pytest.approx(true)
    assert said <= max(true * GROWTH, SMALLEST_MS) * (1 + 1e-9)


@given(VALUES)
def test_the_largest_is_exact(values: list[float]) -> None:
    histogram = of(values)
    assert histogram.largest == max(values)
    assert histogram.percentile(1.0) == max(values)
    assert histogram.total == len(values)


@given(VALUES, VALUES)
def test_merged_is_as_if_added_to_one(some: list[float], others: list[float]) -> None:
    merged = of(some)
    merged.merge(of(others))
    assert merged == of(some + others)
