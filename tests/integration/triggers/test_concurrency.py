"""Many transactions at once, with sweeps between them: nothing fails, deadlocks or waits because of us."""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest

from sketchy_orchestration.database import timer
from sketchy_orchestration.local.application import install
from tests.integration.sweep.scene import Connection, Played, Scene
from tests.integration.triggers.workload import (
    Outcome,
    anything_in,
    legacy_sweeping,
    run,
    sweeping,
    votes_in,
)

AT_MOST = 5.0
"""Seconds for a transaction on a busy machine; a deadlock is noticed after one, and is a failure."""


class Control(Scene):
    """The application alone: a database that has never heard of us."""

    def flag(self, name: str, *, enabled: bool | None = None, value: float | None = None) -> None:
        """There are no flags."""


@pytest.fixture
def control(empty_database: str) -> Iterator[Scene]:
    install(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        yield Control(empty_database, conn)


def test_votes_in_two_games_in_opposite_orders(scene: Scene) -> None:
    games = [scene.game("voting", due_in=60, players=4, drawings=4) for _ in range(2)]
    deeds = [votes_in(games, voter, reverse=bool(voter % 2)) for voter in range(4)]
    outcome = run(scene.url, deeds, times=40)
    assert (outcome.failures, outcome.committed) == ({}, 160), outcome.said
    assert outcome.worst < AT_MOST
    assert scene.failures() == []
    told = scene.one("select count(*) from orchestration.outbox where type = 'vote_cast'")
    assert told == 160 * 2


def test_vote_then_transition_in_one_transaction_while_sweeping(scene: Scene) -> None:
    games = [scene.game("voting", due_in=1.5 + 0.01 * n, players=2, drawings=2) for n in range(120)]
    left = [list(games[n::4]) for n in range(4)]

    def deed(conn: Connection, chance: random.Random, mine: list[Played]) -> None:
        game = mine.pop()
        first, second = game.users
        vote = "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)"
        conn.execute(vote, [game.id, first, game.drawings[second]])
        conn.execute(
            "update public.games set phase_expires_at = clock_timestamp()"
            " where id = %s and status = 'voting'",
            [game.id],
        )
        conn.execute(vote, [game.id, second, game.drawings[first]])
        conn.execute("select public.transition_game_status(%s, 'completed')", [game.id])

    swept: list[timer.Swept] = []
    outcome = run(
        scene.url,
        [lambda conn, chance, mine=mine: deed(conn, chance, mine) for mine in left],  # type: ignore[misc]
        times=30,
        beside=sweeping(scene.url, swept),
    )
    assert (outcome.failures, outcome.committed) == ({}, 120), outcome.said
    assert outcome.worst < AT_MOST
    assert scene.failures() == []
    ends = scene.rows(
        "select game_id, count(*), min(from_phase), min(to_phase) from orchestration.transitions"
        " where to_phase = 'completed' group by game_id"
    )
    assert {tuple(end[1:]) for end in ends} == {(1, "voting", "completed")}
    assert len(ends) == 120
    assert sum(one.set_aside for one in swept) == 0


def play(scene: Scene, isolation: str, *, ours: bool) -> Outcome:
    games = [
        scene.game(phase, due_in=due_in, players=4, drawings=4, round_duration=30, voting_duration=15)
        for phase in ("briefing", "drawing", "voting")
        for due_in in (0.2, 0.4, 0.6, 30)
    ]
    deeds = [anything_in(games, player) for player in range(4)]
    beside = sweeping(scene.url, []) if ours else legacy_sweeping(scene.url)
    return run(scene.url, deeds, isolation=isolation, times=100, beside=beside)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_no_kind_of_failure_that_the_application_alone_does_not_have(
    scene: Scene, control: Scene, isolation: str
) -> None:
    alone = play(control, isolation, ours=False)
    with_us = play(scene, isolation, ours=True)
    print(f"{isolation}: alone {alone.failures} of 400, with us {with_us.failures} of 400")  # noqa: T201
    assert set(with_us.failures) <= set(alone.failures), with_us.said
    # The application's own sweep deadlocks now and then with a player who leaves; ours never does.
    assert set(with_us.failures) <= {"40001"}, with_us.said
    assert with_us.worst < AT_MOST


def test_nothing_fails_while_anything_happens(scene: Scene) -> None:
    with_us = play(scene, "read committed", ours=True)
    assert with_us.failures == {}, with_us.said
    assert with_us.worst < AT_MOST
    assert scene.failures() == []
    assert scene.rows("select * from orchestration.set_aside") == []


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_players_of_different_games_do_not_meet_through_us(
    scene: Scene, control: Scene, isolation: str
) -> None:
    def vote(where: Scene) -> Outcome:
        games = [where.game("voting", due_in=60, players=4, drawings=4) for _ in range(4)]
        return run(where.url, [votes_in([g], 0, reverse=False) for g in games], isolation=isolation, times=50)

    alone, with_us = vote(control), vote(scene)
    print(f"{isolation}: alone {alone.failures} of 200, with us {with_us.failures} of 200")  # noqa: T201
    assert set(with_us.failures) <= set(alone.failures), with_us.said
