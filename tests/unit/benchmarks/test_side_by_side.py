"""Who is compared with whom in the side-by-side report."""

from __future__ import annotations

import math

from benchmarks.side_by_side.figures import FIGURES, best_peer, better, ratio
from benchmarks.side_by_side.referee import Turn
from benchmarks.side_by_side.report import markdown

BY_NAME = {figure.name: figure for figure in FIGURES}


def _turn(name: str, heard_ms: float, *, lost: int = 0, due: int = 4, throughput: float = 1.0) -> Turn:
    return Turn(
        name,
        "tuned",
        "four games",
        due,
        listened=due,
        missed=lost,
        lost=lost,
        throughput=throughput,
        cpu=2.0,
        memory_mb=100.0,
        connections=3,
        lateness_ms=[heard_ms / 2] * (due - lost),
        latency_ms=[heard_ms] * (due - lost),
    )


def test_who_lost_something_or_met_fewer_games_is_not_the_best_peer() -> None:
    floor, ours = _turn("floor", 5.0), _turn("ours", 20.0)
    slow, quick = _turn("slow", 40.0, throughput=3.0), _turn("quick", 1.0, lost=1)
    few = _turn("few", 2.0, due=2)
    turns = [floor, ours, slow, quick, few]
    heard = BY_NAME["heard p99"]
    assert best_peer(heard, turns, ours) is slow
    assert ratio(heard, ours, slow) == 0.5
    assert ratio(heard, ours, floor) == 4.0
    assert math.isnan(ratio(heard, quick, floor))
    assert [figure.name for figure in better(slow, ours)] == ["events/s"]
    assert better(quick, ours) == []
    assert [figure.name for figure in better(ours, quick)][:2] == ["missed", "lost"]


def test_the_report_names_everybody_and_what_could_not_be_measured() -> None:
    turns = [_turn("floor", 5.0), _turn("ours", 20.0), _turn("peer", 10.0), _turn("broken", 1.0, lost=4)]
    told = markdown(turns, ["four games: other: did not start"], "a machine", [])
    assert "| **ours**, tuned | 2.00 / 2.00 |" not in told
    assert "| **ours**, tuned | 4.00 / 2.00 |" in told
    assert "peer (tuned): lateness p50 5.0 against 10.0 ms" in told
    assert "- four games: other: did not start" in told
