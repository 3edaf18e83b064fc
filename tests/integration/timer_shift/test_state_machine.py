"""Whatever application, players, operators and two sweepers do to games in whatever order, the rules hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sketchy_orchestration.domain.phases import FINISHED, Phase
from tests.integration.sweep.conftest import make_scene, scene
from tests.integration.sweep.scene import Scene
from tests.integration.timer_shift.machine import Oracle, Played

__all__ = ["make_scene", "scene"]

EXAMPLES = int(os.environ.get("SKETCHY_EXAMPLES", "20"))

LIVE = [phase for phase in Phase if phase not in FINISHED]
CREATED = [*LIVE, Phase.drawing, Phase.drawing]
NEXT = {
    Phase.waiting: Phase.briefing,
    Phase.briefing: Phase.drawing,
    Phase.drawing: Phase.voting,
    Phase.voting: Phase.results,
    Phase.results: Phase.completed,
}
# Around the moments at which a decision changes: due, left to the other sweeper, rebased, out of the window.
DUE_IN = st.sampled_from([-90.0, -5.01, -1.2, -0.9, -0.1, -0.021, -0.01, 0.0, 0.02, 5.0, 60.0])
SWEEPS = st.fixed_dictionaries(
    {
        "lag": st.sampled_from([0.0, 0.02]),
        "window": st.sampled_from([None, 5.0]),
        "look": st.booleans(),
    }
)


class Games(RuleBasedStateMachine):
    """One run: rules pick a game by number, so that none need to be there."""

    scene: ClassVar[Scene]

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle(self.scene)
        self._stack = ExitStack()
        self._sweepers = [self._stack.enter_context(self.scene.another("sketchy_timer")) for _ in range(2)]

    def pick(self, number: int, *phases: Phase) -> str | None:
        found = self.oracle.unfinished(*phases)
        return found[number % len(found)] if found else None

    @rule(
        phase=st.sampled_from(CREATED), due_in=DUE_IN, players=st.integers(0, 3), drawings=st.integers(0, 2)
    )
    def create(self, phase: Phase, due_in: float, players: int, drawings: int) -> None:
        if len(self.oracle.games) >= 12:
            return
        made = self.scene.game(phase, due_in=due_in, players=players, drawings=min(drawings, players))
        live = self.scene.live(made.id)
        assert live is not None
        self.oracle.games[made.id] = Played(
            phase, live[1], {user: (False, user in made.drawings) for user in made.users}
        )

    @rule(number=st.integers(0, 99), last=st.booleans())
    def draw(self, number: int, last: bool) -> None:
        game = self.pick(number, Phase.drawing)
        if game is None:
            return
        missing = [
            user for user, (left, drew) in self.oracle.games[game].players.items() if not left and not drew
        ]
        for user in missing if last else missing[:1]:
            self.scene.draw(game, user)
            self.oracle.games[game].players[user] = (False, True)

    @rule(number=st.integers(0, 99))
    def leave(self, number: int) -> None:
        game = self.pick(number)
        if game is None:
            return
        for user, (left, drew) in self.oracle.games[game].players.items():
            if not left:
                self.scene.leave(game, user)
                self.oracle.games[game].players[user] = (True, drew)
                return

    @rule(number=st.integers(0, 99), due_in=st.none() | DUE_IN)
    def move_the_deadline(self, number: int, due_in: float | None) -> None:
        game = self.pick(number, *(phase for phase in LIVE if phase is not Phase.waiting))
        if game is not None:
            self.scene.put(game, self.oracle.games[game].phase, due_in)
            self.oracle.told(game, self.oracle.games[game].phase)

    @rule(number=st.integers(0, 99), due_in=DUE_IN)
    def application_moves_on(self, number: int, due_in: float) -> None:
        game = self.pick(number, *(phase for phase in LIVE if phase is not Phase.results))
        if game is not None:
            phase = NEXT[self.oracle.games[game].phase]
            self.scene.put(game, phase, due_in)
            self.oracle.told(game, phase)

    @rule(number=st.integers(0, 99))
    def cancel(self, number: int) -> None:
        game = self.pick(number)
        if game is not None:
            self.scene.do("select public.transition_game_status(%s, 'cancelled')", game)
            self.oracle.told(game, Phase.cancelled)

    @rule(number=st.integers(0, 99))
    def delete(self, number: int) -> None:
        game = self.pick(number)
        if game is not None:
            self.scene.do("delete from public.games where id = %s", game)
            del self.oracle.games[game]

    @rule(number=st.integers(0, 99), action=st.sampled_from(["pause", "resume", "extend", "advance"]))
    def operator(self, number: int, action: str) -> None:
        game = self.pick(number)
        if game is None:
            return
        played = self.oracle.games[game]
        was = played.deadline
        self.scene.do(
            "select orchestration.act_on_games(%s, array[%s]::uuid[], 'test', 'a test', %s)",
            action,
            game,
            30 if action == "extend" else None,
        )
        if action == "pause":
            played.paused = True
            return
        self.oracle.told(game, Phase(self.scene.phase(game)))
        if action == "extend" and was is not None:
            assert played.deadline is not None
            assert played.deadline > was
        # What else an act changes is that the game goes on, unless there was nothing to do.
        live = self.scene.rows("select paused from orchestration.live_games where game_id = %s", game)
        assert not live or not live[0][0] or action == "extend"
        played.paused = bool(live and live[0][0])

    @rule(grace=st.booleans(), on=st.integers(0, 4).map(bool))
    def switch(self, grace: bool, on: bool) -> None:
        self.scene.flag("grace_period", enabled=grace)
        self.scene.flag("timer_monitoring", enabled=on)
        self.oracle.flags = replace(self.oracle.flags, grace_period=grace, timer_monitoring=on)

    @rule(by=st.integers(0, 1), how=SWEEPS)
    def sweep(self, by: int, how: dict[str, Any]) -> None:
        conn = self._sweepers[by]
        swept = self.oracle.sweep(conn, **how)
        conn.commit()
        self.oracle.check(swept)

    @rule(by=st.integers(0, 1))
    def sweep_one(self, by: int) -> None:
        conn = self._sweepers[by]
        swept = self.oracle.sweep(conn, lag=0, window=None, limit=1)
        conn.commit()
        self.oracle.check(swept, complete=False)

    @rule(how=SWEEPS, other=SWEEPS, commit=st.booleans())
    def two_sweeps_at_once(self, how: dict[str, Any], other: dict[str, Any], commit: bool) -> None:
        """The second begins while the first has not committed; the first may not get that far."""
        first, second = self._sweepers
        one = self.oracle.sweep(first, **how)
        two = self.oracle.sweep(second, **other)
        second.commit()
        if commit:
            first.commit()
            self.oracle.check(one, two, complete=False)
        else:
            first.rollback()
            self.oracle.check(two, complete=False)

    @rule(number=st.integers(0, 99), how=SWEEPS, phase=st.sampled_from([None, Phase.cancelled]))
    def sweep_while_the_application_holds_a_game(
        self, number: int, how: dict[str, Any], phase: Phase | None
    ) -> None:
        game = self.pick(number)
        if game is None:
            return
        conn = self._sweepers[0]
        held = self.oracle.games.pop(game)
        with self.scene.another() as application:
            application.execute("select from public.games where id = %s for update", [game])
            if phase is not None:
                application.execute("update public.games set status = %s where id = %s", [phase, game])
            swept = self.oracle.sweep(conn, **how)
            conn.commit()
            self.oracle.check(swept)
            application.commit()
        self.oracle.games[game] = held
        if phase is not None:
            self.oracle.told(game, phase)

    @rule(number=st.integers(0, 99), how=SWEEPS)
    def sweep_while_a_player_draws(self, number: int, how: dict[str, Any]) -> None:
        """The drawing is not committed when the sweep looks: it neither hides the game nor counts yet."""
        game = self.pick(number, Phase.drawing)
        users = (
            [] if game is None else [u for u, seen in self.oracle.games[game].players.items() if not seen[1]]
        )
        if game is None or not users:
            return
        conn = self._sweepers[1]
        with self.scene.another() as player:
            player.execute(
                "insert into public.submissions (game_id, user_id, drawing_data) values (%s, %s, '{}')",
                [game, users[0]],
            )
            swept = self.oracle.sweep(conn, **how)
            conn.commit()
            self.oracle.check(swept)
            player.commit()
        self.oracle.games[game].players[users[0]] = (self.oracle.games[game].players[users[0]][0], True)

    @precondition(lambda self: self.oracle.games)
    @invariant()
    def rows_agree(self) -> None:
        self.oracle.check_rows()

    def teardown(self) -> None:
        """No game is stuck: once its time has come, and nobody stops it, each ends."""
        try:
            self.switch(grace=True, on=True)
            for _ in range(6):
                for game in self.oracle.unfinished():
                    if self.oracle.games[game].paused:
                        self.scene.do(
                            "select orchestration.act_on_games('resume', array[%s]::uuid[], 'test', 'end')",
                            game,
                        )
                        self.oracle.games[game].paused = False
                    if self.oracle.games[game].phase is Phase.waiting:
                        self.scene.do(
                            "update public.games set expires_at = clock_timestamp() where id = %s", game
                        )
                    else:
                        self.scene.put(game, self.oracle.games[game].phase, 0.0)
                    self.oracle.told(game, self.oracle.games[game].phase)
                self.sweep(0, {"lag": 0.0, "window": None, "look": False})
            assert self.oracle.unfinished() == []
            self.oracle.check_rows()
        finally:
            self._stack.close()


@pytest.mark.timeout(60 + 10 * EXAMPLES)
def test_whatever_happens_the_rules_hold(scene: Scene) -> None:
    Games.scene = scene
    run: Callable[..., None] = run_state_machine_as_test
    run(
        Games,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
