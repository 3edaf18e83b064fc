"""Flags: set with a reason, kept in a history, defaults from the environment until somebody decides."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from sketchy_orchestration.database import flags
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
    settings = Settings(enable_grace_period=False, max_games_per_execution=50)
    flags.apply_environment(connection, settings, enrolment=100)
    assert not flags.flag(connection, "grace_period").enabled
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
