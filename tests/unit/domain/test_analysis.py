"""Verdicts: thresholds, samples, empty data, errors, dry runs; and the comparison with the control group."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.analysis import (
    Counts,
    Judged,
    Measurement,
    Verdict,
    judge,
    judge_comparison,
    merged,
    overall,
)
from sketchy_orchestration.domain.analysis_comparison import mann_whitney, sure_gap
from sketchy_orchestration.domain.rollout_metrics import Measure, MetricName
from sketchy_orchestration.domain.rollout_plan import Comparison, EmptyData, Metric

ACCURACY = Metric(name=MetricName.timer_accuracy, minimum=1000)
GOOD = Measurement(0.9999, 5000, bad=1)
BAD = Measurement(0.99, 5000, bad=50)
NOTHING = Measurement(None, 0)
ERROR = Measurement(None, 0, error="time-out")
NONE = Counts()


def verdict(metric: Metric, *measured: Measurement, counts: Counts = NONE) -> Judged:
    return judge(metric, list(measured), counts)


def test_good_passes_bad_fails_and_too_few_say_nothing() -> None:
    assert verdict(ACCURACY, GOOD).verdict is Verdict.passed
    assert verdict(ACCURACY, BAD).verdict is Verdict.failed
    few = verdict(ACCURACY, Measurement(1.0, 12, bad=0))
    assert (few.verdict, few.waits) == (Verdict.inconclusive, False)
    assert "12 of 1000 needed" in few.said
    # What is bad beyond mending fails without waiting for the sample.
    assert verdict(ACCURACY, Measurement(0.6, 10, bad=4)).verdict is Verdict.failed
    assert verdict(ACCURACY, Measurement(0.9, 10, bad=1)).verdict is Verdict.inconclusive


@pytest.mark.parametrize("value", [None, float("nan")])
def test_no_data_means_what_the_plan_says_and_never_passes_by_default(value: float | None) -> None:
    empty = Measurement(value, 0 if value is None else 5000)
    assert verdict(ACCURACY, empty).verdict is Verdict.inconclusive
    for policy, wanted in ((EmptyData.passed, Verdict.passed), (EmptyData.failed, Verdict.failed)):
        assert verdict(ACCURACY.model_copy(update={"empty": policy}), empty).verdict is wanted
    # The recent past may well be empty.
    failing = ACCURACY.model_copy(update={"empty": EmptyData.failed})
    assert verdict(failing, GOOD, NOTHING).verdict is Verdict.passed


def test_a_recent_fault_fails_though_the_step_as_a_whole_is_good() -> None:
    assert verdict(ACCURACY, GOOD, BAD).verdict is Verdict.failed
    assert verdict(ACCURACY, GOOD, Measurement(1.0, 3, bad=0)).verdict is Verdict.passed


def test_failures_are_tolerated_up_to_their_limit_and_do_not_pass() -> None:
    tolerant = ACCURACY.model_copy(update={"failure_limit": 1})
    first = verdict(tolerant, BAD)
    assert (first.verdict, first.waits, first.counts) == (Verdict.inconclusive, True, Counts(1))
    again = verdict(tolerant, GOOD, counts=first.counts)
    assert (again.verdict, again.counts) == (Verdict.passed, Counts(1, 0, 1))
    assert verdict(tolerant, BAD, counts=again.counts).verdict is Verdict.failed


def test_some_metrics_must_pass_several_times_in_a_row() -> None:
    strict = ACCURACY.model_copy(update={"successes": 2, "failure_limit": 1})
    once = verdict(strict, GOOD)
    assert (once.verdict, once.waits) == (Verdict.inconclusive, True)
    assert verdict(strict, GOOD, counts=once.counts).verdict is Verdict.passed
    interrupted = verdict(strict, BAD, counts=once.counts)
    assert verdict(strict, GOOD, counts=interrupted.counts).verdict is Verdict.inconclusive


def test_errors_in_a_row_are_counted_apart_and_end_blind() -> None:
    metric = ACCURACY.model_copy(update={"error_limit": 2})
    counts = Counts()
    for number in (1, 2):
        judged = verdict(metric, ERROR, counts=counts)
        counts = judged.counts
        assert (judged.verdict, judged.waits, judged.blind) == (Verdict.inconclusive, True, False)
        assert counts.errors == number
    assert verdict(metric, GOOD, counts=counts).counts.errors == 0
    blind = verdict(metric, ERROR, counts=counts)
    assert (blind.blind, blind.verdict) == (True, Verdict.inconclusive)
    # A failure beside an error is a failure: an analysis that failed stops the rollout.
    assert verdict(metric, BAD, ERROR).verdict is Verdict.failed


def test_counts_are_remembered_by_name() -> None:
    failed = verdict(ACCURACY, BAD)
    assert merged({"error_rate": Counts(2), failed.metric: NONE}, [failed]) == {
        "error_rate": Counts(2),
        "timer_accuracy": failed.counts,
    }


def test_a_dry_run_is_judged_and_decides_nothing() -> None:
    dry = verdict(ACCURACY.model_copy(update={"dry_run": True}), BAD)
    good = verdict(ACCURACY, GOOD)
    assert dry.verdict is Verdict.failed
    assert overall([dry, good]) is Verdict.passed
    assert overall([dry]) is Verdict.inconclusive
    assert overall([]) is Verdict.inconclusive
    assert overall([good, replace(good, verdict=Verdict.inconclusive)]) is Verdict.inconclusive
    assert overall([good, replace(good, verdict=Verdict.failed)]) is Verdict.failed


def test_the_comparison_finds_what_is_worse_and_only_that() -> None:
    draw = random.Random(7)
    theirs = [draw.gauss(100, 10) for _ in range(200)]
    same = mann_whitney([draw.gauss(100, 10) for _ in range(200)], theirs, more_is_better=False)
    slower = mann_whitney([draw.gauss(110, 10) for _ in range(200)], theirs, more_is_better=False)
    faster = mann_whitney([draw.gauss(90, 10) for _ in range(200)], theirs, more_is_better=False)
    assert (same.fails(0.98, 0.25), slower.fails(0.98, 0.25), faster.fails(0.98, 0.25)) == (
        False,
        True,
        False,
    )
    assert slower.worse > 0.4
    assert "200 of ours" in slower.said()
    # Sure, yet too small to matter.
    assert not slower.fails(0.98, 0.9)
    halves = mann_whitney([1.0, 0.0] * 100, [1.0] * 200, more_is_better=True)
    assert halves.fails(0.98, 0.25)
    assert mann_whitney([1.0] * 50, [1.0] * 50, more_is_better=True).confidence == 0
    with pytest.raises(ValueError, match="both groups need at least one game"):
        mann_whitney([], [1.0], more_is_better=True)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.lists(st.floats(0, 1e6), min_size=1, max_size=40)
)
def test_better_one_way_is_worse_the_other(ours: list[float], theirs: list[float]) -> None:
    up = mann_whitney(ours, theirs, more_is_better=True)
    down = mann_whitney(ours, theirs, more_is_better=False)
    assert up.worse == pytest.approx(-down.worse)
    assert -1 <= up.worse <= 1
    assert 0 <= up.confidence <= 1


def test_a_comparison_needs_its_sample_of_both_groups() -> None:
    comparison = Comparison(measure=Measure.completed, minimum=50)
    few = judge_comparison(comparison, Measurement(0.9, 12, failing=True), Counts())
    assert (few.metric, few.verdict) == ("compare_completed", Verdict.inconclusive)
    enough = judge_comparison(comparison, Measurement(0.9, 50, failing=True), Counts())
    assert enough.verdict is Verdict.failed


def test_a_gap_is_only_what_is_sure() -> None:
    assert sure_gap(90, 100, 95, 100, 0.98) == 0
    assert sure_gap(500, 1000, 900, 1000, 0.98) == pytest.approx(0.4, abs=0.05)
    assert sure_gap(1000, 1000, 900, 1000, 0.98) == 0
    assert sure_gap(0, 0, 10, 10, 0.98) == 0
