"""Our schema broken on purpose: no statement of the application fails or waits because of it."""

from __future__ import annotations

import pytest

from sketchy_orchestration.local.application import Shape
from tests.integration.sweep.conftest import MakeScene
from tests.integration.sweep.scene import Scene
from tests.integration.triggers.statements import Battery

DROP_HELPERS = """
do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select p.oid::regprocedure from pg_proc p
        where p.pronamespace = 'orchestration'::regnamespace and p.prorettype <> 'trigger'::regtype
    loop
        if exists (select from pg_proc p where p.oid = v_function) then
            execute 'drop function ' || v_function || ' cascade';
        end if;
    end loop;
end
$$
"""
DROP_PARTITIONS = """
do $$
declare
    v_partition regclass;
begin
    for v_partition in select inhrelid::regclass from pg_inherits
        where inhparent = 'orchestration.outbox'::regclass
    loop
        execute 'drop table ' || v_partition;
    end loop;
end
$$
"""

RECORDED = {
    "outbox dropped": "drop table orchestration.outbox cascade",
    "outbox renamed": "alter table orchestration.outbox rename to inbox",
    "outbox refuses every row": "alter table orchestration.outbox add constraint no check (false) not valid",
    "no partition for today": DROP_PARTITIONS,
    "transitions dropped": "drop table orchestration.transitions cascade",
    "live_games dropped": "drop table orchestration.live_games cascade",
    "live_games renamed": "alter table orchestration.live_games rename to live",
    "enrolments dropped": "drop table orchestration.enrolments cascade",
    "flags dropped": "drop table orchestration.flags cascade",
    "the type of a change dropped": "drop type orchestration.game_change cascade",
    "a column gone": "alter table orchestration.outbox drop column data cascade",
    "record_changes dropped": "drop function orchestration.record_changes",
    "request_id raises": "create or replace function orchestration.request_id() returns text language plpgsql"
    " volatile set search_path = '' as 'begin raise exception ''no''; end'",
}
SILENT = {
    "is_enrolled dropped": "drop function orchestration.is_enrolled(uuid)",
    "flags renamed": "alter table orchestration.flags rename to banners",
    "flags emptied": "delete from orchestration.flags",
    "wait_at_most dropped": "drop function orchestration.wait_at_most(integer)",
    "helpers dropped": DROP_HELPERS,
    "outbox and trigger_failures dropped": "drop table orchestration.outbox, orchestration.trigger_failures"
    " cascade",
    "nothing may be touched": "revoke all on all tables in schema orchestration from current_user",
    "nothing may be called": "revoke all on all functions in schema orchestration from current_user, public",
    "schema renamed": "alter schema orchestration rename to elsewhere",
    "schema dropped": "drop schema orchestration cascade",
    "every table dropped": "drop table orchestration.outbox, orchestration.trigger_failures,"
    " orchestration.transitions, orchestration.live_games, orchestration.enrolments, orchestration.flags"
    " cascade",
}
AT_MOST = 0.3
SHAPES: tuple[Shape, ...] = ("current", "old", "in_database_sweep")


def what_went_wrong(scene: Scene, breakage: str, *, recorded: bool | None) -> str | None:
    """A game of before and one of after the breakage, each played to its end; then everything is taken back.

    All in one session, so that what it has planned and cached of the unbroken schema is in use.
    """
    with scene.conn.transaction(force_rollback=True):
        batteries = [Battery(scene.conn, scene.users(3)) for _ in range(2)]
        try:
            batteries[0].begin()
            scene.do(breakage)
            batteries[0].play()
            batteries[0].end()
            phase = scene.phase(batteries[0].game)
            batteries[1].whole()
        except AssertionError as error:
            return str(error)
        worst = max(battery.worst for battery in batteries)
        if phase != "completed":
            return f"the game is in {phase}"
        if worst[0] > AT_MOST:
            return f"waited {worst}"
        if recorded is not None and bool(scene.failures()) is not recorded:
            return f"recorded: {scene.failures()}"
    return None


@pytest.mark.parametrize("shape", SHAPES)
def test_the_application_goes_on_and_a_row_says_what_was_missed(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    scene.flag("enrolment", value=100)
    assert what_went_wrong(scene, "select 1", recorded=False) is None
    wrong = {name: what_went_wrong(scene, breakage, recorded=True) for name, breakage in RECORDED.items()}
    assert {name: what for name, what in wrong.items() if what} == {}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_application_goes_on_when_nothing_can_be_said(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    scene.flag("enrolment", value=100)
    wrong = {name: what_went_wrong(scene, breakage, recorded=None) for name, breakage in SILENT.items()}
    assert {name: what for name, what in wrong.items() if what} == {}


def test_without_our_schema_the_legacy_list_and_events_are_as_they_were(scene: Scene) -> None:
    game = scene.game("drawing", due_in=-1)
    assert scene.rows("select game_id from public.find_expired_games(50)") == []
    told = scene.one("select count(*) from public.legacy_broadcasts")
    scene.do("drop schema orchestration cascade")
    listed = scene.rows("select game_id::text from public.find_expired_games(50)")
    assert listed == [(game.id,)]
    scene.do("select public.transition_game_status(%s, 'voting')", game.id)
    assert scene.one("select count(*) from public.legacy_broadcasts") > told
