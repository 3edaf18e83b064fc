"""A table learns from what is heard and read, and no late news takes it back."""

from __future__ import annotations

from sketchy_orchestration.local.players.record import GameRecord
from sketchy_orchestration.local.players.table import Table
from tests.unit.players.a_game import START, iso


def table() -> Table:
    return Table(GameRecord("a", {}))


def test_a_phase_never_goes_back() -> None:
    one = table()
    one.learn("drawing", START + 60, START)
    one.learn("briefing", START + 20, START + 5)
    assert (one.phase, one.deadline) == ("drawing", START + 60)


def test_an_older_answer_does_not_undo_a_moved_deadline() -> None:
    one = table()
    one.learn("drawing", START + 60, START)
    one.learn("drawing", START + 5, START + 1)
    one.learn("drawing", START + 60, START + 0.5)
    assert one.deadline == START + 5
    one.learn("drawing", START + 15, START + 5)
    assert one.deadline == START + 15, "the grace period"


def test_a_phase_told_without_its_deadline_gets_it_when_it_is_read() -> None:
    one = table()
    one.hear("game-a", {"type": "phase_changed", "data": {"newPhase": "voting"}}, START)
    assert (one.phase, one.deadline) == ("voting", None)
    one.learn("voting", START + 30, START + 1)
    assert one.deadline == START + 30


def test_a_sync_of_another_phase_changes_nothing() -> None:
    one = table()
    one.learn("drawing", START + 60, START)
    data = {"phase": "briefing", "phaseExpiresAt": iso(START + 1), "serverTime": iso(START + 1)}
    one.hear("game-a", {"type": "server_timer_sync", "data": data}, START + 1)
    assert one.deadline == START + 60


async def test_waiting_for_a_change_ends_with_it_or_with_the_time() -> None:
    one = table()
    await one.change(0)
    assert one.phase == "waiting"
    assert one.passed("waiting") is False
    one.learn("cancelled", None, START)
    assert one.passed("results")
