"""Figures of what was played."""

from __future__ import annotations

from sketchy_orchestration.local.players.checker import check
from sketchy_orchestration.local.players.report import Sample, Tally
from tests.unit.players.a_game import a_good_game


def test_a_good_game_is_counted_and_measured() -> None:
    story = a_good_game()
    tally = Tally(started=1)
    tally.add(story.record, check(story.record), legacy=False)
    report = tally.report(1.0, 0)
    assert report.kept
    assert (report.completed, report.events_expected, report.events_heard) == (1, 18, 18)
    assert report.lateness is not None
    assert report.lateness.count == 3
    assert report.delivery is not None
    assert report.delivery.max == 5.0
    assert report.as_dict()["ok"] is True


def test_a_broken_promise_is_counted_by_kind_and_quoted() -> None:
    story = a_good_game()
    story.record.heard.pop()
    tally = Tally(started=1)
    tally.add(story.record, check(story.record), legacy=False)
    report = tally.report(1.0, 0)
    assert not report.kept
    assert report.violations == {"lost": 1}
    assert "game_completed" in report.examples[0]


def test_a_sample_stays_small_and_keeps_the_worst() -> None:
    sample = Sample()
    for number in range(50_000):
        sample.add(float(number))
    spread = sample.spread()
    assert spread is not None
    assert (spread.count, spread.max) == (50_000, 49_999)
    assert 24_000 < spread.p50 < 26_000


def test_nothing_measured_is_nothing() -> None:
    assert Sample().spread() is None
    assert not Tally().report(0.0, 0).kept
