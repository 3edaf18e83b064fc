"""Validations: what runs where, what is written down, and that nothing is left behind."""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest

from sketchy_orchestration.database import validations
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.delivery.validation import (
    CannotTryError,
    Check,
    Scene,
    StepFailedError,
    ValidationRefusedError,
    validate,
)
from sketchy_orchestration.delivery.validation_checks import checks, enrolled, migrations_are_verified
from sketchy_orchestration.domain.validation import Outcome, Suite
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.version import settings_fingerprint, this_version


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(_env_file=None, database_url=database_url)  # type: ignore[call-arg,arg-type]  # pydantic's


def passes(scene: Scene) -> str:
    scene.numbers["way_ms"] = 12.0
    return "a | b"


def fails(_: Scene) -> str:
    raise StepFailedError("7 events were lost")


def breaks(scene: Scene) -> str:
    with connect(scene.settings, Role.operator) as connection:
        connection.execute("select 1 / 0")
    return "never"


def cannot(_: Scene) -> str:
    raise CannotTryError("no local PubNub")


def test_every_step_has_a_result_in_row_report_and_junit(
    settings: Settings, connection: psycopg.Connection
) -> None:
    left: list[str] = []
    scene = Scene(settings, clean_up=[lambda: left.append("second"), lambda: left.append("first")])
    steps = [
        Check("passes", Suite.unit, "line one", passes),
        Check("fails", Suite.load, "line two", fails),
        Check("breaks", Suite.load, "line three", breaks),
        Check("cannot", Suite.failure, "line four", cannot),
        Check("not_asked", Suite.smoke, "line five", passes),
    ]
    done = validate(scene, steps, [Suite.unit, Suite.load, Suite.failure], by="ann")
    assert [result.outcome for result in done.results] == [
        Outcome.passed,
        Outcome.failed,
        Outcome.failed,
        Outcome.skipped,
    ]
    assert left == ["first", "second"]
    assert not done.verdict.go
    assert done.verdict.why == "not run: integration, smoke; failed: fails, breaks; skipped: cannot"
    row = connection.execute(
        """select package, passed, total, go, started_by, jsonb_array_length(results)
           from orchestration.validations"""
    ).fetchone()
    assert row == (done.version.package, 1, 4, False, "ann", 4)
    report = done.markdown()
    assert "NO GO" in report
    assert "25.0%" in report
    assert "| fails | load | line two | failed |" in report
    assert "7 events were lost" in report
    assert "a / b" in report
    assert "| way_ms | 12 |" in report
    suites = {suite.get("name"): suite.attrib for suite in Xml.fromstring(done.junit())}  # noqa: S314  our own
    assert (suites["load"]["tests"], suites["load"]["failures"]) == ("2", "2")
    assert suites["failure"]["skipped"] == "1"


def test_a_go_is_for_this_very_version_and_expires_with_what_is_attested(settings: Settings) -> None:
    steps = [Check(str(suite), suite, "a line", passes) for suite in Suite]
    done = validate(Scene(settings), steps, by="ann")
    assert done.verdict.go
    everything = [str(suite) for suite in Suite]
    with connect(settings, Role.operator) as connection:
        assert validations.newest_of(connection, done.version, everything) is not None
        another = this_version(settings.model_copy(update={"pubnub_request_timeout": 3.0}))
        assert validations.newest_of(connection, another, everything) is None
        for part in done.version.as_dict():
            another = replace(done.version, **{part: "another"})
            assert validations.newest_of(connection, another, everything) is None, part
        done = validate(Scene(settings), steps, [Suite.smoke], by="ann")
        newest = validations.newest_of(connection, done.version, everything)
        assert newest is not None
        assert newest.validation_id == done.number - 1
        validations.attest(connection, "documentation", by="ann", note="read", days=1)
        (attested,) = validations.attestations(connection)
        assert (attested.item, attested.attested_by, attested.valid) == ("documentation", "ann", True)


def test_its_own_games_are_enrolled_at_any_percentage_and_no_other_is(
    settings: Settings, connection: psycopg.Connection
) -> None:
    own, guest = str(uuid4()), str(uuid4())
    connection.execute(
        "select orchestration.set_flag('enrolment', 'ann', 'a guest', p_allow => array[%s])", [guest]
    )
    with enrolled(Scene(settings), [own]):
        connection.execute(
            "insert into public.games (id, prompt) values (%s, 'a cat'), (gen_random_uuid(), 'a dog')", [own]
        )
    handlers = connection.execute(
        "select g.prompt, e.handler from public.games g join orchestration.enrolments e on e.game_id = g.id"
    )
    assert dict(handlers.fetchall()) == {"a cat": "orchestration", "a dog": "legacy"}
    allowed = "select allow from orchestration.flags where name = 'enrolment'"
    assert connection.execute(allowed).fetchone() == ([guest],)
    connection.execute("select orchestration.set_flag('enrolment', 'ann', 'off', false)")
    with pytest.raises(StepFailedError, match="the flag enrolment is off"), enrolled(Scene(settings), [own]):
        pass


def test_production_is_refused_except_for_what_is_harmless(settings: Settings) -> None:
    given = settings.model_dump(exclude_unset=True)
    production = Settings(_env_file=None, **{**given, "environment": "production"})
    steps = [
        Check("harmless", Suite.smoke, "a line", passes, harmless=True),
        Check("games", Suite.smoke, "a line", passes),
    ]
    with pytest.raises(ValidationRefusedError, match="only the suite smoke runs there"):
        validate(Scene(production), steps, [Suite.load, Suite.smoke], by="ann")
    done = validate(Scene(production), steps, [Suite.smoke], by="ann")
    assert [result.name for result in done.results] == ["harmless"]
    done = validate(Scene(production), steps, [Suite.smoke, Suite.load], by="ann", on_production=True)
    assert [result.name for result in done.results] == ["harmless", "games"]


def test_the_fingerprint_has_behaviour_and_neither_secrets_nor_places(settings: Settings) -> None:
    own = settings_fingerprint(settings)
    places = {"region": "elsewhere", "gateway_port": 1, "sketchy_home": "/tmp/x", "environment": "staging"}  # noqa: S108
    given = settings.model_dump(exclude_unset=True)
    assert settings_fingerprint(Settings(_env_file=None, **{**given, **places, "cron_secret": "s"})) == own
    assert settings_fingerprint(Settings(_env_file=None, **{**given, "gateway_connections": 5})) != own


def test_the_checklists_cover_every_suite_and_find_a_changed_schema(
    settings: Settings, connection: psycopg.Connection
) -> None:
    known = checks()
    assert {check.suite for check in known} == set(Suite)
    assert len({check.name for check in known}) == len(known)
    assert "schema as they make it" in migrations_are_verified(Scene(settings))
    connection.execute("drop index orchestration.live_games_deadline_idx")
    with pytest.raises(StepFailedError, match="live_games_deadline_idx"):
        migrations_are_verified(Scene(settings))
