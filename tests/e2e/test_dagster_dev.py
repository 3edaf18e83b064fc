"""`dagster dev` alone: it brings its own services, shares them, and takes them along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from sketchy_orchestration.local import processes, stack_state
from sketchy_orchestration.local.postgres.folders import delete
from tests.e2e.stack_runner import ROOT, clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    delete(tmp_path / "home")


def of_home(home: Path) -> list[psutil.Process]:
    """Every process that was told of this home folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SKETCHY_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def at_work(home: Path) -> set[tuple[str, int]]:
    state = stack_state.read(home)
    if state is None:
        return set()
    with psycopg.connect(state.environment["DATABASE_URL"]) as connection:
        rows = connection.execute(
            "select kind, count(*)::int from orchestration.shifts where ended_at is null group by kind"
        )
        return {(kind, count) for kind, count in rows}


def test_it_starts_what_it_needs_and_leaves_nothing_behind(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml")),
                *("-h", "127.0.0.1", "-p", str(processes.free_port())),
            ],
            env=clean_environment(home, DAGSTER_DISABLE_TELEMETRY="yes"),
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        complete = {("timer", 2), ("fanout", 2)}
        assert processes.wait_until(lambda: at_work(home) == complete, seconds=120, pause=0.5), (
            log.read_text()
        )
        process.send_signal(signal.SIGINT)
        assert processes.wait_until(lambda: not of_home(home), seconds=60, pause=0.2), of_home(home)
        process.wait(timeout=10)
    finally:
        for left in of_home(home):
            with suppress(ProcessLookupError):
                os.kill(left.pid, signal.SIGKILL)
    assert stack_state.read(home) is None
