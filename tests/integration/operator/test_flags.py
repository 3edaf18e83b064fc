"""Flags: set with a reason, kept in a history, defaults from the environment until somebody decides."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from typer.testing import CliRunner

from sketchy_orchestration.cli import flags as cli
from sketchy_orchestration.database import flags
from sketchy_orchestration.database.connect import Address, Role
from sketchy_orchestration.database.gateway import GatewayDatabase
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.settings import Environment, Settings


def test_a_change_needs_a_reason_and_leaves_a_trace(connection: psycopg.Connection) -> None:
    with pytest.raises(flags.FlagError, match="a reason is needed"):
        flags.set_flag(connection, "enrolment", by="ann", reason="", value=25)
    changed = flags.set_flag(connection, "enrolment", by="ann", reason="first step", value=25)
    assert changed.shown == "25 %"
    (newest, *_) = flags.history(connection, "enrolment")
    assert (newest["changed_by"], newest["reason"], newest["value"]) == ("ann", "first step", 25)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("enrolment", 101, "0 to 100"), ("enrolment", -1, "0 to 100"), ("grace_period", 5, "on or off")],
)
def test_a_wrong_value_is_refused_by_name(
    connection: psycopg.Connection, name: str, value: float, allowed: str
) -> None:
    with pytest.raises(flags.FlagError, match=f"flag {name} .* takes {allowed}, not {value}"):
        flags.set_flag(connection, name, by="ann", reason="x", value=value)


def test_an_unknown_flag_lists_the_known_ones(connection: psycopg.Connection) -> None:
    with pytest.raises(flags.FlagError, match="no flag nonsense") as caught:
        flags.set_flag(connection, "nonsense", by="ann", reason="x", enabled=True)
    assert "timer_monitoring" in caught.value.in_one_line()


def test_the_environment_is_the_default_until_somebody_decides(connection: psycopg.Connection) -> None:
    settings = Settings(enable_grace_period=False, enable_timer_monitoring=False, max_games_per_execution=50)
    flags.apply_environment(connection, settings, enrolment=100)
    assert not flags.flag(connection, "grace_period").enabled
    assert not flags.flag(connection, "timer_monitoring").enabled
    assert flags.flag(connection, "max_games_per_sweep").shown == "50"
    assert flags.flag(connection, "enrolment").shown == "100 %"
    flags.set_flag(connection, "grace_period", by="ann", reason="wanted", enabled=True)
    flags.apply_environment(connection, settings)
    assert flags.flag(connection, "grace_period").enabled


def test_production_must_choose_how_fast_it_publishes(connection: psycopg.Connection) -> None:
    production = Settings(_env_file=None, environment=Environment.production)  # type: ignore[call-arg]
    with pytest.raises(flags.FlagError, match="PUBLISH_RATE"):
        flags.apply_environment(connection, production)
    flags.apply_environment(connection, production.model_copy(update={"publish_rate": 100.0}))
    assert flags.flag(connection, "publish_rate").shown == "100"
    flags.set_flag(connection, "publish_rate", by="ann", reason="our plan has no limit", value=0)
    flags.apply_environment(connection, production)


def bucket(salt: str, subject: str) -> int:
    return int(hashlib.sha256(f"{salt}:{subject}".encode()).hexdigest()[:8], 16) % 10_000


def test_buckets_are_what_any_language_computes_and_percentages_only_grow(
    connection: psycopg.Connection,
) -> None:
    subjects = [str(uuid4()) for _ in range(500)]
    rows = connection.execute(
        "select s, orchestration.bucket('salt', s) from unnest(%s::text[]) s", [subjects]
    ).fetchall()
    assert rows == [(subject, bucket("salt", subject)) for subject in subjects]
    inside: set[str] = set()
    for percentage in (0, 1, 25, 50, 99.99, 100):
        flags.set_flag(connection, "enrolment", by="ann", reason="step", value=percentage)
        now = {
            row[0]
            for row in connection.execute(
                "select s from unnest(%s::text[]) s where orchestration.flag_includes('enrolment', s)",
                [subjects],
            )
        }
        assert inside <= now
        inside = now
    assert inside == set(subjects)


def test_the_vectors_of_the_document_hold(connection: psycopg.Connection) -> None:
    document = (Path(__file__).parents[3] / "docs" / "flags.md").read_text(encoding="utf-8")
    vectors = re.findall(r"^\| `(.*)` \| `(.*)` \| (\d+) \|$", document, re.MULTILINE)
    assert len(vectors) >= 4
    for salt, subject, expected in vectors:
        row = connection.execute("select orchestration.bucket(%s, %s)", [salt, subject]).fetchone()
        assert row == (int(expected),)


def test_deny_beats_allow_beats_percentage(connection: psycopg.Connection) -> None:
    def includes() -> bool:
        row = connection.execute("select orchestration.flag_includes('enrolment', 'vip')").fetchone()
        return bool(row and row[0])

    flags.set_flag(connection, "enrolment", by="ann", reason="x", value=0, allow=["vip"])
    assert includes()
    flags.set_flag(connection, "enrolment", by="ann", reason="x", value=100, deny=["vip"])
    assert not includes()


def test_an_operator_adds_a_flag_of_any_kind_and_takes_it_away(connection: psycopg.Connection) -> None:
    who = {"by": "ann", "reason": "a party"}
    switch = flags.add_flag(connection, "double_votes", "switch", value=None, description="Twice", **who)
    share = flags.add_flag(connection, "new_canvas", "percentage", value=5, description="New", **who)
    number = flags.add_flag(connection, "most_players", "number", value=8, description="Most", **who)
    assert [one.shown for one in (switch, share, number)] == ["on", "5 %", "8"]
    # Buckets of one flag are independent of another's.
    assert share.name != "enrolment"
    within, bucket = flags.asked(connection, "new_canvas", "somebody")
    assert within == (bucket < 500)
    for wrong in (("double_votes", "switch", None), ("Wrong", "switch", None), ("x", "percentage", 101)):
        with pytest.raises(flags.FlagError):
            flags.add_flag(connection, wrong[0], wrong[1], value=wrong[2], description="x", **who)
    flags.remove_flag(connection, "new_canvas", by="bob", reason="over")
    history = flags.history(connection, "new_canvas")
    assert [(row["changed_by"], row["reason"]) for row in history[:2]] == [("bob", "over"), ("bob", "over")]
    with pytest.raises(flags.FlagError, match="came with the system"):
        flags.remove_flag(connection, "enrolment", by="bob", reason="x")
    with pytest.raises(flags.FlagError, match="no flag new_canvas"):
        flags.remove_flag(connection, "new_canvas", by="bob", reason="x")


def test_the_command_line_sets_adds_lists_and_asks(
    database_url: str, monkeypatch: pytest.MonkeyPatch, connection: psycopg.Connection
) -> None:
    from sketchy_orchestration import settings as reading

    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "250")
    reading.settings.cache_clear()
    run, why = CliRunner().invoke, ["--reason", "a test"]
    try:
        assert run(cli.app, ["add", "new_canvas", "5%", "--description", "New", *why]).exit_code == 0
        assert run(cli.app, ["lists", "new_canvas", "--allow", "vip", "--allow", "ann", *why]).exit_code == 0
        assert run(cli.app, ["lists", "new_canvas", "--deny", "ann", *why]).exit_code == 0
        assert run(cli.app, ["ask", "new_canvas", "vip"]).output.startswith("within new_canvas")
        assert run(cli.app, ["ask", "new_canvas", "ann"]).output.startswith("not within")
        assert run(cli.app, ["set", "new_canvas", "100", *why]).output == "new_canvas is now 100 %\n"
        assert "a test" in run(cli.app, ["history", "new_canvas"]).output
        assert run(cli.app, ["set", "new_canvas", "100"]).exit_code == 2
    finally:
        reading.settings.cache_clear()
    one = flags.flag(connection, "new_canvas")
    assert (one.allow, one.deny) == (["vip"], ["ann"])


async def test_the_gateways_pool_follows_its_flag(connection: psycopg.Connection, database_url: str) -> None:
    database = GatewayDatabase(
        Address.of_role(Settings(_env_file=None, database_url=database_url), Role.gateway),  # type: ignore[call-arg,arg-type]
        connections=1,
        wait=5,
        waiting=10,
        statement_seconds=5,
    )
    database.open()
    try:

        def becomes(size: int) -> bool:
            return wait_until(lambda: database.stats()["size"] == size, seconds=10)

        assert await asyncio.to_thread(becomes, 1)
        flags.set_flag(connection, "gateway_connections", by="ann", reason="busy", enabled=True, value=3)
        assert await asyncio.to_thread(becomes, 3)
        flags.set_flag(connection, "gateway_connections", by="ann", reason="quiet", enabled=False)
        assert await asyncio.to_thread(becomes, 1)
    finally:
        await database.close()
