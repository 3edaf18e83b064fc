"""The sweep against the rules in domain/phases.py: the same games through both."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sketchy_orchestration.domain.phases import (
    FINISHED,
    ON_SCHEDULE,
    Cause,
    Flags,
    Game,
    Move,
    Phase,
    decide,
)
from sketchy_orchestration.local.application import Shape
from tests.integration.sweep.conftest import MakeScene
from tests.integration.sweep.scene import Scene

SHAPES: tuple[Shape, ...] = ("current", "old", "in_database_sweep")
MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Case:
    """A game to be set up: `due_in` seconds until its deadline; players as (has left, has drawn)."""

    phase: Phase
    due_in: float | None = -0.05
    players: tuple[tuple[bool, bool], ...] = ()
    grace_row: bool = False
    graced: bool = False
    paused: bool = False
    round_duration: int = 60
    voting_duration: int = 30
    flags: Flags = field(default_factory=Flags)


MISSING, DREW, LEFT, LEFT_AND_DREW = (False, False), (False, True), (True, False), (True, True)

TABLE = {
    "a lobby past its expiry": Case(Phase.waiting),
    "a lobby past its expiry with players": Case(Phase.waiting, players=(MISSING, MISSING)),
    "a lobby": Case(Phase.waiting, 5.0),
    "briefing": Case(Phase.briefing, players=(MISSING,), round_duration=77),
    "briefing, early": Case(Phase.briefing, 5.0),
    "briefing, on schedule": Case(Phase.briefing, -0.8),
    "briefing, rebased": Case(Phase.briefing, -1.2),
    "briefing without an end": Case(Phase.briefing, None),
    "drawing with one missing": Case(Phase.drawing, players=(DREW, MISSING)),
    "drawing with all missing, rebased": Case(Phase.drawing, -90.0, players=(MISSING, MISSING)),
    "drawing with one missing, no grace": Case(
        Phase.drawing, players=(DREW, MISSING), flags=Flags(grace_period=False)
    ),
    "drawing with one missing, grace of nothing": Case(
        Phase.drawing, players=(DREW, MISSING), flags=Flags(grace_seconds=0)
    ),
    "drawing with one missing, long grace": Case(
        Phase.drawing, players=(DREW, MISSING), flags=Flags(grace_seconds=25)
    ),
    "drawing after grace": Case(Phase.drawing, players=(MISSING,), grace_row=True, graced=True),
    "drawing after grace whose row is gone": Case(Phase.drawing, players=(MISSING,), graced=True),
    "drawing after somebody else's grace": Case(Phase.drawing, players=(MISSING,), grace_row=True),
    "drawing with everything in": Case(Phase.drawing, players=(DREW, DREW), voting_duration=99),
    "drawing with everything in, early": Case(Phase.drawing, 20.0, players=(DREW, DREW), voting_duration=99),
    "drawing in grace with everything in": Case(Phase.drawing, 4.0, players=(DREW, DREW), grace_row=True),
    "drawing without an end, everything in": Case(Phase.drawing, None, players=(DREW,)),
    "drawing, the missing one left": Case(Phase.drawing, 20.0, players=(DREW, LEFT)),
    "drawing, one who drew left, another is missing": Case(
        Phase.drawing, 20.0, players=(LEFT_AND_DREW, MISSING)
    ),
    "drawing at the end, the missing one left": Case(Phase.drawing, players=(DREW, LEFT)),
    "drawing without players": Case(Phase.drawing),
    "drawing without players, early": Case(Phase.drawing, 5.0),
    "drawing, everybody left": Case(Phase.drawing, 5.0, players=(LEFT, LEFT_AND_DREW)),
    "voting": Case(Phase.voting, players=(DREW, DREW)),
    "voting without players": Case(Phase.voting),
    "voting, rebased": Case(Phase.voting, -30.0, players=(DREW,)),
    "voting, early": Case(Phase.voting, 5.0, players=(DREW, DREW)),
    "results": Case(Phase.results, players=(DREW,)),
    "results, early": Case(Phase.results, 5.0),
    "completed": Case(Phase.completed),
    "cancelled": Case(Phase.cancelled),
    "paused": Case(Phase.voting, paused=True),
    "paused with everything in": Case(Phase.drawing, 20.0, players=(DREW,), paused=True),
    "switched off": Case(Phase.briefing, flags=Flags(timer_monitoring=False)),
    "triggers switched off": Case(Phase.briefing, flags=Flags(triggers=False)),
}


def cases() -> st.SearchStrategy[Case]:
    """Any game; deadlines gather around the moments at which a decision changes."""
    moments = st.sampled_from([0.0, -1.0]).flatmap(lambda at: st.floats(at - 0.05, at + 0.05))
    return st.builds(
        Case,
        phase=st.sampled_from(Phase),
        due_in=st.none() | moments | st.floats(-400, 30),
        players=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=4).map(tuple),
        grace_row=st.booleans(),
        graced=st.booleans(),
        paused=st.integers(0, 9).map(lambda one: one == 0),
        round_duration=st.integers(30, 300),
        voting_duration=st.integers(15, 120),
    )


SOME_FLAGS = st.builds(
    Flags,
    timer_monitoring=st.integers(0, 9).map(bool),
    triggers=st.just(True),
    grace_period=st.booleans(),
    grace_seconds=st.integers(0, 30),
)


def set_up(scene: Scene, case: Case) -> tuple[str, Game]:
    """The case as rows, and as the rules see it."""
    due_in = 60.0 if case.phase is Phase.waiting and case.due_in is None else case.due_in
    game = scene.game(
        case.phase,
        due_in=due_in,
        players=len(case.players),
        round_duration=case.round_duration,
        voting_duration=case.voting_duration,
    )
    for user, (left, drew) in zip(game.users, case.players, strict=True):
        if drew:
            scene.draw(game.id, user)
        if left:
            scene.leave(game.id, user)
    if case.grace_row:
        scene.do(
            "insert into public.game_metadata (game_id, key) values (%s, 'drawing_grace_' || %s)",
            game.id,
            game.id,
        )
    scene.do(
        "update orchestration.live_games set graced = %s, paused = %s,"
        " paused_at = case when %s then clock_timestamp() end where game_id = %s",
        case.graced and case.phase is Phase.drawing,
        case.paused,
        case.paused,
        game.id,
    )
    live = scene.live(game.id)
    return game.id, Game(
        case.phase,
        live[1] if live else None,
        players=sum(not left for left, _ in case.players),
        missing=sum(not left and not drew for left, drew in case.players),
        had_grace=case.grace_row or case.graced,
        round_duration=case.round_duration,
        voting_duration=case.voting_duration,
        paused=case.paused,
    )


def apply(scene: Scene, flags: Flags) -> None:
    scene.flag("timer_monitoring", enabled=flags.timer_monitoring)
    scene.flag("triggers", enabled=flags.triggers)
    scene.flag("grace_period", enabled=flags.grace_period)
    scene.flag("grace_seconds", value=flags.grace_seconds)


def sweep(scene: Scene) -> datetime:
    """One sweep that looks at everything; the moment it decided by."""
    with scene.another("sketchy_timer") as conn:
        swept = scene.sweep(conn, look=True)
        row = conn.execute(
            "select coalesce(nullif(current_setting('orchestration.swept_at', true), '')::timestamptz, now())"
        ).fetchone()
        conn.commit()
    assert swept.set_aside == 0, scene.rows("select * from orchestration.set_aside")
    assert row is not None
    moment: datetime = row[0]
    return moment


def found(scene: Scene, game: str, before: int) -> dict[str, Any]:
    """What the game's rows say after the sweep, in the words of `wanted`."""
    moved = scene.rows(
        "select to_phase, cause, deadline, next_deadline, rebased, handler from orchestration.transitions"
        " where game_id = %s and id > %s",
        game,
        before,
    )
    assert len(moved) <= 1
    live = scene.live(game)
    return {
        "status": scene.phase(game),
        "live": live,
        "moved": moved[0] if moved else None,
        "deadline of the application": (
            scene.one("select phase_expires_at from public.games where id = %s", game)
            if scene.timer_columns and live and live[0] != "waiting"
            else None
        ),
    }


def wanted(scene: Scene, game: Game, move: Move | None) -> dict[str, Any]:
    phase = game.phase if move is None else move.to_phase
    deadline = game.deadline if move is None else move.next_deadline
    left = move is not None and move.to_phase is not game.phase
    return {
        "status": str(phase),
        "live": None if phase in FINISHED else (str(phase), deadline),
        "moved": (
            (str(phase), str(move.cause), game.deadline, move.next_deadline, move.rebased, "orchestration")
            if left and move
            else None
        ),
        "deadline of the application": (
            deadline if scene.timer_columns and phase not in FINISHED and phase is not Phase.waiting else None
        ),
    }


def compare(scene: Scene, given_cases: list[Case], flags: Flags) -> None:
    scene.do("delete from public.games")
    apply(scene, Flags())
    games = [(case, *set_up(scene, case)) for case in given_cases]
    apply(scene, flags)
    before = scene.one("select coalesce(max(id), 0) from orchestration.transitions")
    moment = sweep(scene)
    for case, game_id, game in games:
        move = decide(game, moment, flags)
        assert found(scene, game_id, before) == wanted(scene, game, move), (case, flags, move)
        if move is not None:
            kept = scene.one(
                "select count(*) from public.game_metadata"
                " where game_id = %s and key = 'drawing_grace_' || %s",
                game_id,
                game_id,
            )
            left_drawing = game.phase is Phase.drawing and move.to_phase is not Phase.drawing
            assert kept == (0 if left_drawing else int(case.grace_row or move.to_phase is game.phase))


@pytest.mark.parametrize("shape", SHAPES)
def test_each_case_of_the_table(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    by_flags: dict[Flags, list[Case]] = {}
    for case in TABLE.values():
        by_flags.setdefault(case.flags, []).append(case)
    for flags, together in by_flags.items():
        compare(scene, together, flags)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_games_together(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)

    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(cases(), min_size=1, max_size=12), SOME_FLAGS)
    def holds(together: list[Case], flags: Flags) -> None:
        compare(scene, together, flags)

    holds()


def decided(scene: Scene, games: dict[str, Game], moment: datetime) -> dict[str, tuple[Any, ...]]:
    """What SQL decides at exactly this moment: to which phase, until when."""
    return {
        game: (phase, until)
        for game, phase, until in scene.rows(
            "select game_id::text, to_phase, next_deadline"
            " from unnest(orchestration.decide_moves(%s::uuid[], %s))",
            list(games),
            moment,
        )
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_to_the_microsecond(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    games = dict(set_up(scene, case) for case in TABLE.values() if case.flags == Flags())
    deadlines = sorted({game.deadline for game in games.values() if game.deadline is not None})
    moments = {
        deadline + offset
        for deadline in deadlines
        for offset in (-MOMENT, timedelta(0), ON_SCHEDULE, ON_SCHEDULE + MOMENT)
    }
    for moment in moments:
        moves = {game_id: decide(game, moment, Flags()) for game_id, game in games.items()}
        assert decided(scene, games, moment) == {
            game_id: (str(move.to_phase), move.next_deadline) for game_id, move in moves.items() if move
        }


def test_what_a_move_writes_and_tells(scene: Scene) -> None:
    one = scene.game("drawing", players=2, drawings=2)
    sweep(scene)
    assert scene.phase(one.id) == "voting"
    assert scene.events(one.id)[-2:] == ["timer_expired", "phase_changed"]
    expired, changed = scene.rows(
        "select data, request_id from orchestration.outbox where game_id = %s order by id desc limit 2",
        one.id,
    )[::-1]
    assert (expired[0]["expiredPhase"], expired[0]["nextPhase"]) == ("drawing", "voting")
    assert (changed[0]["previousPhase"], changed[0]["newPhase"], changed[0]["phaseDuration"]) == (
        "drawing",
        "voting",
        30,
    )
    assert changed[0]["transitionTriggeredBy"] == Cause.timer
    log = scene.rows(
        "select from_status::text, to_status::text, triggered_by from public.game_transition_log"
        " where game_id = %s order by created_at desc limit 1",
        one.id,
    )
    assert log == [("drawing", "voting", f"orchestration:{changed[1]}")]
    assert json.dumps(expired[0]).count("null") == 0
