"""`sketchy timers` and `sketchy games`: from what an operator sees to what an operator does."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import psycopg
import pytest
from typer.testing import CliRunner

from sketchy_orchestration.cli.main import app
from sketchy_orchestration.database import games, timer
from sketchy_orchestration.monitoring.metrics import Watch
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.settings import settings as own_settings
from tests.integration.operator.conftest import Game

pytestmark = pytest.mark.usefixtures("joined")

# A trigger of somebody's, whose words must not be taken for ours.
_REFUSES = """
    create function public.refuse() returns trigger language plpgsql as $$
    begin
        if new.status = 'drawing' and new.prompt = 'broken' then raise exception 'not [/this] one'; end if;
        return new;
    end $$;
    create trigger refuse before update on public.games for each row execute function public.refuse()
"""


@pytest.fixture
def joined(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands find the test's database."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "160")


def run(*words: str) -> str:
    own_settings.cache_clear()
    try:
        done = CliRunner().invoke(app, list(words))
    finally:
        own_settings.cache_clear()
    assert done.exit_code == 0, done.output
    return done.stdout


def make_due(connection: psycopg.Connection, *ids: UUID) -> None:
    connection.execute(
        "update public.games set phase_expires_at = clock_timestamp() where id = any (%s)", [list(ids)]
    )


def phases(connection: psycopg.Connection) -> dict[UUID, str]:
    return dict(connection.execute("select id, status::text from public.games").fetchall())


def test_a_game_set_aside_is_seen_and_retried_or_dropped(
    connection: psycopg.Connection, database_url: str, game: Game
) -> None:
    mended, dropped, fine = game(), game(), game()
    connection.execute(_REFUSES)
    connection.execute("update public.games set prompt = 'broken' where id <> %s", [fine])
    make_due(connection, mended, dropped, fine)
    swept = timer.sweep(connection, limit=500)
    assert (swept.moved, swept.set_aside) == (1, 2)

    shown = run("timers")
    assert all(word in shown for word in (str(mended), str(dropped), "not [/this] one (P0001)", "last 10 s"))
    found: dict[str, Any] = json.loads(run("timers", "--json"))
    assert {row["game_id"] for row in found["set_aside"]} == {str(mended), str(dropped)}
    assert [row["game_id"] for row in found["next_deadlines"]] == [str(fine)]
    assert found["live"] == found["lateness"]
    assert (found["live"]["transitions"], found["live"]["early"]) == (1, 0)
    assert 0 <= found["live"]["percentiles"][0] <= found["live"]["largest"]
    watch = Watch(Settings(_env_file=None, database_url=database_url))  # type: ignore[call-arg,arg-type]
    assert "\nsketchy_games_set_aside 2.0\n" in watch.exposition().decode()
    (check,) = [check for check in watch.checks() if check.name == "games"]
    assert "2" in check.said
    assert check.action
    assert "set aside until" in run("games", "show", str(mended))

    connection.execute("update public.games set prompt = 'a cat' where id = %s", [mended])
    assert timer.sweep(connection, limit=500).moved == 0
    run("games", "retry", str(mended), "--reason", "mended")
    assert timer.sweep(connection, limit=500).moved == 1
    assert "cancelled" in run("games", "drop", str(dropped), "--reason", "beyond repair")
    assert phases(connection) == {mended: "drawing", dropped: "cancelled", fine: "drawing"}
    assert "nothing is set aside" in run("timers")
    for one, act in ((mended, "retry"), (dropped, "drop")):
        told = json.loads(run("games", "show", str(one), "--json"))["timeline"]
        assert any(line["kind"] == "operator" and line["what"].startswith(act) for line in told)


def test_acts_on_all_games_say_first_and_hold_few_at_a_time(
    connection: psycopg.Connection, game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(games, "BATCH", 2)
    ids = [game() for _ in range(5)]
    for words in (["pause"], ["resume"], ["extend", "--seconds", "30"], ["advance"]):
        said = run("games", *words, "--all-live", "--reason", "a test")
        assert "5 games; nothing was changed: give --yes to do it" in said
        assert all(str(one) in said for one in ids)
    assert set(phases(connection).values()) == {"briefing"}
    assert connection.execute("select count(*) from orchestration.operator_actions").fetchone() == (0,)

    assert run("games", "pause", "--all-live", "--reason", "a test", "--yes").count("paused with") == 5
    assert run("timers", "--json").count('"next_in"') == 0
    transactions = connection.execute("select count(distinct xmin::text) from orchestration.live_games")
    assert transactions.fetchone() == (3,)
    run("games", "resume", "--all-live", "--reason", "a test", "--yes")
    run("games", "advance", *map(str, ids), "--reason", "a test", "--yes")
    assert set(phases(connection).values()) == {"drawing"}
    shown = run("games", "show", str(ids[0]))
    assert "drawing until" in shown
    told = json.loads(run("games", "show", str(ids[0]), "--json"))["timeline"]
    (moved,) = [line for line in told if line["what"] == "briefing -> drawing"]
    deadline = connection.execute(
        "select orchestration.iso(deadline) from orchestration.live_games where game_id = %s", [ids[0]]
    ).fetchone()
    assert deadline is not None
    assert moved["detail"].startswith("operator, deadline ")
    assert moved["detail"].endswith(f", until {deadline[0]}")
    # Enough of it to tell which request it was, however narrow the screen.
    assert moved["request_id"][:6] in shown


def test_who_only_asks_keeps_nobody_waiting(
    connection: psycopg.Connection, database_url: str, game: Game
) -> None:
    one = game()
    with psycopg.connect(database_url) as asking:
        would = games.act(asking, games.Act.advance, [one], by="ann", reason="a test", dry_run=True)
        assert [acted.outcome for acted in would] == ["briefing -> drawing"]
        connection.execute("select from public.games where id = %s for update nowait", [one])
