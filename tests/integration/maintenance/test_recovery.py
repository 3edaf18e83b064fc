"""A backup that can be trusted, and three that cannot."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sketchy_orchestration.defs.monitoring import jobs, ops
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.monitoring import recovery
from sketchy_orchestration.monitoring.recovery import Backup
from sketchy_orchestration.settings import Settings
from tests.integration.monitoring.conftest import Facts


@pytest.fixture
def backup(settings: Settings, postgres: RunningPostgres, facts: Facts, tmp_path: Path) -> Backup:
    facts.connection.execute(
        "insert into public.games (prompt) select 'cat ' || n from generate_series(1, 500) n"
    )
    facts.transition(count=50)
    facts.event()
    return recovery.dump(settings, postgres, tmp_path / "backup")


def test_a_good_backup_is_trusted(backup: Backup, postgres: RunningPostgres) -> None:
    done = recovery.verify(backup, postgres)
    assert done.problems == []
    assert backup.tables["public.games"].rows == 500
    assert done.rows > 1_000
    assert "can be trusted" in done.markdown()
    print(done.markdown())  # noqa: T201  figures of the report


@pytest.mark.parametrize("damage", ["cut short", "overwritten", "empty"])
def test_a_damaged_file_is_found(damage: str, backup: Backup, postgres: RunningPostgres) -> None:
    data = backup.path.read_bytes()
    middle = len(data) // 2
    backup.path.write_bytes(
        {
            "cut short": data[:middle],
            "overwritten": data[:middle] + bytes(2_000) + data[middle + 2_000 :],
            "empty": b"",
        }[damage]
    )
    done = recovery.verify(backup, postgres)
    assert len(done.problems) >= 2, "found by its checksum and by restoring it"
    assert "DO NOT TRUST IT" in done.markdown()


def test_missing_rows_and_other_contents_are_found_by_what_is_in_them(
    backup: Backup, postgres: RunningPostgres
) -> None:
    tables = dict(backup.tables)
    tables["public.games"] = dataclasses.replace(tables["public.games"], rows=501)
    transitions = "orchestration.transitions"
    tables[transitions] = dataclasses.replace(tables[transitions], digest=1)
    tables["public.gone"] = tables[transitions]
    done = recovery.verify(dataclasses.replace(backup, tables=tables), postgres)
    assert sorted(done.problems) == [
        "orchestration.transitions has other contents",
        "public.games has 500 rows instead of 501",
        "public.gone is missing",
    ]


def test_a_broken_invariant_is_found(
    settings: Settings, postgres: RunningPostgres, connection: psycopg.Connection, tmp_path: Path
) -> None:
    connection.execute(
        "insert into orchestration.sequenced (outbox_id, event_id, game_id, lane, seq, epoch, occurred_at)"
        " select n, gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 0, n, 1, now()"
        " from unnest(array[1, 3]) n"
    )
    done = recovery.verify(recovery.dump(settings, postgres, tmp_path / "backup"), postgres)
    assert done.problems == ["seq without gaps: broken 1 times"]


def test_the_job_fails_when_the_disk_turns_a_single_bit(
    database_url: str, postgres: RunningPostgres, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts.transition(count=50)
    written = recovery.dump

    def damaged(*given: Any, **more: Any) -> Backup:
        backup = written(*given, **more)
        data = bytearray(backup.path.read_bytes())
        data[len(data) // 2] ^= 1
        backup.path.write_bytes(data)
        return backup

    monkeypatch.setattr(recovery, "dump", damaged)
    monkeypatch.setattr(ops, "scratch_server", lambda: nullcontext(postgres))
    resources = {"postgres": PostgresResource(database_url=database_url)}
    done = jobs.recovery_drill.execute_in_process(resources=resources, raise_on_error=False)
    (failed,) = [event for event in done.all_node_events if event.event_type_value == "STEP_FAILURE"]
    told = str(failed.step_failure_data.user_failure_data or failed.step_failure_data.error)
    assert "the backup cannot be trusted: the file is not the one that was written" in told
