"""Games and shifts as rows, for tests that only look at what supervision makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import dagster as dg
import psycopg
import pytest

from sketchy_orchestration.settings import Settings

MakeShift = Callable[..., UUID]


@pytest.fixture
def its_settings(database_url: str) -> Settings:
    return Settings(database_url=database_url)  # type: ignore[arg-type]  # pydantic makes it a secret


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def stored_instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """For what Dagster refuses to do on one in memory; takes two seconds to make."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as local:
        yield local


@pytest.fixture
def resources(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The resources as the definitions have them, on the test's database."""
    from sketchy_orchestration.defs.resources import resources

    monkeypatch.setenv("DATABASE_URL", database_url)
    for name in ("PUBNUB_PUBLISH_KEY", "PUBNUB_SUBSCRIBE_KEY"):
        monkeypatch.setenv(name, "test-key")
    return resources()


@pytest.fixture
def make_shift(connection: psycopg.Connection) -> MakeShift:
    """Insert the row of a shift that began `age` seconds ago and was last heard `silence` seconds ago."""

    def make(
        kind: str = "timer",
        *,
        age: float = 60,
        silence: float = 0,
        run_id: str | None = None,
        host: str = "elsewhere",
        pid: int = 1,
    ) -> UUID:
        shift_id = uuid4()
        connection.execute(
            """insert into orchestration.shifts
                   (shift_id, kind, version, host, pid, dagster_run_id, started_at, heartbeat_at)
               values (%s, %s, 'test', %s, %s, %s, clock_timestamp() - make_interval(secs => %s),
                       clock_timestamp() - make_interval(secs => %s))""",
            [shift_id, kind, host, pid, run_id, age, silence],
        )
        return shift_id

    return make


@pytest.fixture
def overdue_game(connection: psycopg.Connection) -> Callable[..., UUID]:
    """Make an enrolled game in briefing whose deadline passed `by` seconds ago."""
    connection.execute("select orchestration.set_flag('enrolment', 'test', 'test', null, 100)")

    def make(by: float = 5) -> UUID:
        row = connection.execute("insert into public.games (prompt) values ('a cat') returning id").fetchone()
        assert row is not None
        connection.execute("select public.transition_game_status(%s, 'briefing')", [row[0]])
        connection.execute(
            "update public.games set phase_expires_at = clock_timestamp() - make_interval(secs => %s)"
            " where id = %s",
            [by, row[0]],
        )
        return UUID(str(row[0]))

    return make
