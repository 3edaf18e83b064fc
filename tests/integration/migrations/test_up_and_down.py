"""Up, down, up on every shape of the application, while games are played on it."""

from __future__ import annotations

from typing import get_args

import psycopg
import pytest

from sketchy_orchestration.database.migrate import migrate_down, migrate_up, verify
from sketchy_orchestration.database.migration_checks import catalogue
from sketchy_orchestration.database.migration_files import load_migrations
from sketchy_orchestration.local.application import Shape
from sketchy_orchestration.local.postgres import RunningPostgres
from tests.integration.migrations.application_at_play import games_at_play
from tests.integration.migrations.conftest import MakeDatabase
from tests.integration.migrations.schema_dump import schema_dump

# The databases of before are tried by `make test-long`: each takes as long as the one of today.
SHAPES = [
    shape if shape == "current" else pytest.param(shape, marks=pytest.mark.long) for shape in get_args(Shape)
]
# What an application statement may wait for us, in seconds.
MOST_WAIT = 0.15


def all_games_ours(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("select orchestration.set_flag('enrolment', 'test', 'games in play', p_value => 100)")


def objects(url: str) -> dict[str, str]:
    with psycopg.connect(url, autocommit=True) as conn:
        return catalogue(conn)


@pytest.mark.parametrize("shape", SHAPES)
def test_nobody_notices(postgres: RunningPostgres, make_database: MakeDatabase, shape: Shape) -> None:
    url = make_database(shape)
    before = schema_dump(postgres, url)
    with games_at_play(url) as control:
        control.more(1500)
    with games_at_play(url) as play:
        steps = migrate_up(url)
        all_games_ours(url)
        play.more(300)
        assert verify(url) == []
        steps += migrate_down(url, 0, "a test plays on")
        play.more(300)
        steps += migrate_up(url)
        play.more(300)
        steps += migrate_down(url, 0, "a test plays on")
    assert play.failures == []
    assert control.failures == []
    assert schema_dump(postgres, url) == before
    assert len(steps) == 4 * len(load_migrations())
    worst, text = play.worst
    noise = max(control.worst[0], play.worst_noise)
    seen, tries = max(s.worst_wait for s in steps), max(s.tries for s in steps)
    print(  # noqa: T201  the figures belong to the test's report
        f"{shape}: {play.statements} statements, worst {worst * 1000:.0f} ms (machine {noise * 1000:.0f} ms),"
        f" locks at most {seen * 1000:.0f} ms, {tries} tries: {text[:60]}"
    )
    # What the server saw others wait for our locks has no excuse; a statement's whole time has the machine's.
    assert seen <= MOST_WAIT
    assert worst <= MOST_WAIT + 2 * noise, text


@pytest.mark.parametrize("shape", SHAPES)
def test_each_way_back_is_exact(postgres: RunningPostgres, make_database: MakeDatabase, shape: Shape) -> None:
    url = make_database(shape)
    seen = {0: schema_dump(postgres, url)}
    fresh: dict[int, dict[str, str]] = {}
    numbers = [m.number for m in load_migrations()]
    for number in numbers:
        migrate_up(url, number)
        seen[number] = schema_dump(postgres, url)
        fresh[number] = objects(url)
    for number, before in reversed(list(zip(numbers, [0, *numbers], strict=False))):
        migrate_down(url, before)
        assert schema_dump(postgres, url) == seen[before], f"after the way back of {number}"
        if before:
            assert objects(url) == fresh[before]
    migrate_up(url)
    assert objects(url) == fresh[numbers[-1]]


def test_running_again_does_nothing(application: str) -> None:
    assert len(migrate_up(application)) == len(load_migrations())
    assert migrate_up(application) == []
    assert len(migrate_down(application, 0)) == len(load_migrations())
    assert migrate_down(application, 0) == []


def test_no_game_of_before_is_ours_and_none_is_without_being_told(application: str) -> None:
    with games_at_play(application, threads=1) as play:
        migrate_up(application)
        play.more(100)
    with psycopg.connect(application, autocommit=True) as conn:
        ours = conn.execute(
            "select count(*) from orchestration.enrolments where handler = 'orchestration'"
        ).fetchone()
        assert ours == (0,)
        assert conn.execute("select count(*) from orchestration.outbox").fetchone() == (0,)
    assert play.failures == []


@pytest.mark.parametrize("shape", get_args(Shape))
def test_row_level_security_on_or_off_makes_no_difference(
    postgres: RunningPostgres, make_database: MakeDatabase, shape: Shape
) -> None:
    url = make_database(shape)
    with psycopg.connect(url, autocommit=True) as conn:
        # The other way round than the shape has it, where our owner is bound by it as well.
        row = conn.execute(
            "select relrowsecurity from pg_class where oid = 'public.games'::regclass"
        ).fetchone()
        switch = "disable" if row and row[0] else "enable"
        for table in ("games", "game_participants"):
            conn.execute(f"alter table public.{table} {switch} row level security")
    before = schema_dump(postgres, url)
    migrate_up(url)
    all_games_ours(url)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("insert into public.games (prompt, expires_at) values ('late', now() - interval '1 s')")
        moved = conn.execute("select moved from orchestration.sweep()").fetchone()
    assert moved == (1,)
    assert verify(url) == []
    migrate_down(url, 0, "a test")
    assert schema_dump(postgres, url) == before
