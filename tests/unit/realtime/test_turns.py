"""Priority orders games, never the events of one."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from sketchy_orchestration.database.relay import OutboxEvent
from sketchy_orchestration.realtime.games import Game
from sketchy_orchestration.realtime.turns import Turns


def game(*types: str) -> Game:
    one = Game(uuid4(), 0, 0, 1, len(types), 1)
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    for seq, kind in enumerate(types, start=1):
        one.loaded.append(
            OutboxEvent(seq, uuid4(), uuid4(), 0, seq, 0, kind, "system", {}, ["c"], "r", moment)
        )
    return one


def test_games_whose_clock_hangs_on_it_come_first_but_do_not_starve_the_others() -> None:
    turns = Turns()
    urgent = [game("phase_changed") for _ in range(9)]
    others = [game("vote_cast", "phase_changed") for _ in range(9)]
    for one in (*others, *urgent):
        turns.add(one)
    order = [turns.next() for _ in range(18)]
    assert turns.next() is None
    assert [one for one in order if one in urgent] == urgent
    assert [one for one in order if one in others] == others
    # Three urgent ones, then another's turn: an urgent event behind its game's vote does not jump the queue.
    assert [one in urgent for one in order[:8]] == [True, True, True, False] * 2
    assert not any(one is not None and one.queued for one in order)


def test_who_cannot_use_its_turn_keeps_its_place() -> None:
    turns = Turns()
    first, second = game("vote_cast"), game("vote_cast")
    turns.add(first)
    turns.add(second)
    assert turns.next() is first
    turns.back(first)
    assert [turns.next(), turns.next()] == [first, second]
