"""Partial rollbacks say first, change only what they name, and may be repeated."""

from __future__ import annotations

import psycopg
import pytest

from sketchy_orchestration.delivery import rollback
from sketchy_orchestration.delivery.emergency import emergency_stop, lift_stop
from sketchy_orchestration.domain.rollback import Risk
from sketchy_orchestration.realtime.shift import ShiftKind
from sketchy_orchestration.realtime.supervision import supervise
from sketchy_orchestration.settings import Settings
from tests.integration.rollback.conftest import MakeGames


def flags(connection: psycopg.Connection) -> dict[str, tuple[bool, float | None]]:
    rows = connection.execute("select name, enabled, value::float8 from orchestration.flags")
    return {name: (enabled, value) for name, enabled, value in rows}


@pytest.mark.parametrize(
    ("risk", "changed"),
    [
        (Risk.pubnub, {"pubnub_broadcasting": (False, None)}),
        (Risk.overlaps, {"timer_monitoring": (False, None)}),
        (Risk.connections, {"fanout_concurrency": (True, 25.0), "max_games_per_sweep": (True, 125.0)}),
    ],
)
def test_each_risk_has_its_answer(
    settings: Settings, connection: psycopg.Connection, risk: Risk, changed: dict[str, object]
) -> None:
    before = flags(connection)
    connection.execute(
        """insert into orchestration.shifts (shift_id, kind, version, host, pid)
           values (gen_random_uuid(), 'timer', '1', 'h', 1)"""
    )
    rollback.answer(settings, risk, by="ann", reason="incident", dry_run=True)
    assert flags(connection) == before
    for _ in range(2):
        rollback.answer(settings, risk, by="ann", reason="incident", dry_run=False)
        assert flags(connection) == before | changed
    at_work = connection.execute(
        "select count(*) from orchestration.shifts where ended_at is null"
    ).fetchone()
    assert at_work == ((0,) if risk is Risk.connections else (1,))


def test_fewer_games_at_once_are_fewer_from_the_next_statement_on(
    connection: psycopg.Connection, make_games: MakeGames
) -> None:
    make_games(5, within=0.001)
    for limit, left in ((2, 3), (500, 0)):
        connection.execute(
            "select orchestration.set_flag('max_games_per_sweep', 'ann', 'x', null, %s)", [limit]
        )
        connection.execute("select from orchestration.sweep(p_limit => 500)")
        overdue = "select count(*) from orchestration.live_games where deadline < clock_timestamp()"
        assert connection.execute(overdue).fetchone() == (left,)


def test_any_flag_can_be_switched_off(settings: Settings, connection: psycopg.Connection) -> None:
    steps = rollback.switch_off(settings, "grace_period", by="ann", reason="wrong", dry_run=False)
    assert flags(connection)["grace_period"] == (False, None)
    assert "on -> off" in steps.done[0].found
    steps = rollback.switch_off(settings, "grace_period", by="ann", reason="wrong", dry_run=False)
    assert "already" in steps.done[0].found


class NoRuns:
    def unfinished(self, kind: ShiftKind) -> list[object]:  # noqa: ARG002  the signature is given
        return []

    def has_finished(self, run_id: str) -> bool:  # noqa: ARG002
        return True

    def end(self, run_id: str, why: str) -> None: ...


def test_supervision_starts_nothing_under_an_emergency_stop(settings: Settings) -> None:
    emergency_stop(settings, by="ann", reason="incident 42", release=False)
    for kind in ShiftKind:
        plan = supervise(settings, kind, NoRuns(), {})  # type: ignore[arg-type]  # no runs of any type
        assert plan.launch == 0
        assert "an emergency stop of ann stands (incident 42)" in plan.reason
    lift_stop(settings, by="ann", reason="over")
    assert supervise(settings, ShiftKind.fanout, NoRuns(), {}).launch == 2  # type: ignore[arg-type]
