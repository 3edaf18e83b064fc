"""What is generated for client developers is up to date and says what is true."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest

from sketchy_orchestration.domain import envelope
from sketchy_orchestration.domain.envelope import Event
from sketchy_orchestration.gateway.client_types import (
    SCHEMA_FILE,
    TYPES_FILE,
    NotUpToDateError,
    json_schema,
    typescript,
    write,
)
from sketchy_orchestration.gateway.events import EVENTS
from sketchy_orchestration.gateway.schemas import EventType

FOLDER = Path(__file__).parents[3] / "clients" / "javascript"


def message(kind: str, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    from datetime import UTC, datetime

    event = Event("e", "g", kind, "system", datetime.now(UTC), "r", data, 2, 1)
    return {**envelope.message(event, 1_767_607_260_000), **changes}


SYNC = {
    "phase": "drawing",
    "phaseStartedAt": "2026-01-05T10:00:00.000Z",
    "phaseDuration": 60,
    "phaseExpiresAt": "2026-01-05T10:01:00.000Z",
    "serverTime": "2026-01-05T10:00:18.000Z",
    "timeRemaining": 42,
}


def test_the_files_are_up_to_date() -> None:
    assert write(FOLDER, check=True) == []


def test_a_file_that_is_not_is_named_and_written(tmp_path: Path) -> None:
    with pytest.raises(NotUpToDateError, match=SCHEMA_FILE):
        write(tmp_path, check=True)
    assert [file.name for file in write(tmp_path)] == [SCHEMA_FILE, TYPES_FILE]
    assert write(tmp_path) == []


def test_one_list_of_types() -> None:
    assert list(EVENTS) == list(get_args(EventType))


def test_the_schema_takes_what_we_send_and_refuses_what_we_do_not() -> None:
    valid = jsonschema_rs.validator_for(json_schema()).is_valid
    assert valid(message("server_timer_sync", SYNC))
    assert valid(envelope.time_sync("g", SYNC, timestamp_ms=1, event_id="e"))
    assert valid(message("test", {}, gameId=None))
    assert not valid(message("server_timer_sync", {**SYNC, "timeRemaining": "soon"}))
    assert not valid(message("server_timer_sync", {}))
    assert valid(message("server_timer_sync", {}, truncated=True))
    assert not valid(message("made_up", {}))
    assert not valid(message("server_timer_sync", SYNC, timestamp=1.5))
    assert not valid({"type": "test", "data": {}})


def test_every_type_is_a_type() -> None:
    text = typescript()
    for name in EVENTS:
        assert f'EventEnvelope<"{name}", ' in text
    for line in text.splitlines():
        assert "undefined" not in line
        assert "null" not in line or "gameId" in line or "Null" in line


def test_typescript_itself_understands_them(tmp_path: Path) -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("there is no tsc on PATH: the types are not compiled")
    use = tmp_path / "use.ts"
    use.write_text(
        f'import type {{ GameEvent }} from "{FOLDER.as_posix()}/events";\n'
        'export const ends = (e: GameEvent) => e.type === "timer_expired" ? e.data.nextPhase : null;\n',
        encoding="utf-8",
    )
    subprocess.run([tsc, "--noEmit", "--strict", str(use)], check=True, timeout=60)


def test_the_schema_file_is_json() -> None:
    assert json.loads((FOLDER / SCHEMA_FILE).read_text(encoding="utf-8"))["title"] == "GameEvent"
