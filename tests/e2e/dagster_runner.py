"""A real Dagster: code server and daemon as processes, storage of its own, on a database of the tests."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
from psycopg.rows import dict_row

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.processes import Process
from sketchy_orchestration.local.stack_parts import answers
from tests.e2e.stack_runner import ROOT, clean_environment

# As in production, but with a storage that is a folder.
_INSTANCE = """\
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1, max_concurrent_runs: 25}
run_monitoring:
  {enabled: true, start_timeout_seconds: 60, cancel_timeout_seconds: 15, poll_interval_seconds: 2}
run_retries: {enabled: false}
compute_logs:
  module: dagster.core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
telemetry: {enabled: false}
nux: {enabled: false}
"""


class RunningDagster:
    """Code server and daemon; both end with this process, whatever becomes of it.

    Args:
        storage_url: keep runs there, as in production, and not in a folder.
        more: environment variables beside, or instead of, those without which nothing works.
    """

    def __init__(self, folder: Path, database_url: str, storage_url: str | None = None, **more: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.home = folder / "dagster"
        self.home.mkdir()
        storage = f"storage: {{postgres: {{postgres_url: '{storage_url}'}}}}\n" if storage_url else ""
        (self.home / "dagster.yaml").write_text(_INSTANCE + storage, encoding="utf-8")
        self.port = processes.free_port()
        self._workspace = self.home / "workspace.yaml"
        self._workspace.write_text(
            f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {self.port}, location_name: it}}\n",
            encoding="utf-8",
        )
        needed = {
            "DATABASE_URL": database_url,
            "DAGSTER_HOME": str(self.home),
            "PUBNUB_PUBLISH_KEY": "test-key",
            "PUBNUB_SUBSCRIBE_KEY": "test-key",
            "PUBNUB_ORIGIN": "127.0.0.1:1",
            "PUBNUB_SSL": "false",
        }
        self._environment = clean_environment(folder / "unused", **{**needed, **more})
        # What coverage would measure in them, others show; measured, Dagster takes half as long again.
        self._environment.pop("COVERAGE_PROCESS_CONFIG", None)
        self._connection = psycopg.connect(database_url, autocommit=True, row_factory=dict_row)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.instance = dg.DagsterInstance.from_config(str(self.home))
        self.code_server = self.start_code_server()
        self.daemon = self.start_daemon()
        self.webserver: Process | None = None

    def start_code_server(self) -> Process:
        """Start it, where the daemon expects it, and wait until it listens."""
        self.code_server = self._start(
            "code-server",
            *("dagster", "api", "grpc", "-m", "sketchy_orchestration.definitions", "--location-name", "it"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        )
        assert processes.wait_until(lambda: not processes.is_free(self.port), seconds=60), self.logs()
        return self.code_server

    def start_daemon(self) -> Process:
        self.daemon = self._start("daemon", "dagster._daemon", "run", "-w", str(self._workspace))
        return self.daemon

    def start_webserver(self) -> str:
        """Start it and wait until it answers; its address."""
        port = processes.free_port()
        words = ("-h", "127.0.0.1", "-p", str(port), "-w", str(self._workspace))
        self.webserver = self._start("webserver", "dagster_webserver", *words)
        url = f"http://127.0.0.1:{port}"
        assert processes.wait_until(lambda: answers(f"{url}/server_info"), seconds=90, pause=0.1)
        return url

    def _start(self, name: str, module: str, *words: str) -> Process:
        return processes.start(
            [sys.executable, "-m", module, *words],
            env=self._environment,
            log=self.folder / f"{name}.log",
            cwd=ROOT,
        )

    def execute(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """One statement on the database of the shifts, as its owner."""
        cursor = self._connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def at_work(self, kind: str) -> list[dict[str, Any]]:
        """The shifts of this kind that beat."""
        return self.execute(
            "select * from orchestration.shifts where kind = %s and ended_at is null"
            " and heartbeat_at > clock_timestamp() - interval '2 seconds' order by started_at",
            kind,
        )

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def wait(self, condition: Callable[[], bool], *, seconds: float = 60) -> None:
        """Wait for it, or fail with what the processes said."""
        assert processes.wait_until(condition, seconds=seconds, pause=0.05), self.logs()

    def wait_until_settled(self) -> None:
        self.wait(lambda: len(self.at_work("timer")) == 2 and len(self.at_work("fanout")) == 2, seconds=150)

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{self.said(name)[-4000:]}" for name in ("code-server", "daemon"))

    def stop(self) -> None:
        """Daemon first, so that nothing is replaced; then the shifts, for whom the code server would wait."""
        if self.webserver is not None:
            processes.stop(self.webserver, (signal.SIGTERM, 5.0))
        processes.stop(self.daemon, (signal.SIGTERM, 10.0))
        self.execute("update orchestration.shifts set ended_at = clock_timestamp() where ended_at is null")
        processes.stop(self.code_server, (signal.SIGTERM, 15.0))
        self._connection.close()
        self.instance.dispose()
