"""The security audit finds what is wrong, says what it could not look at, and runs as a Dagster job."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import psycopg
import pytest

from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.defs.security.jobs import security_audit as job
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.monitoring.advisories import installed, known_vulnerabilities
from sketchy_orchestration.monitoring.security_audit import audit, listeners
from tests.integration.gateway.serving import settings_for


@contextmanager
def advisories(vulnerable: str, *, status: int = 200) -> Iterator[str]:
    """A server in the form of OSV that knows of one vulnerable package."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["queries"]
            results = [
                {"vulns": [{"id": "TEST-1"}]} if query["package"]["name"] == vulnerable else {}
                for query in asked
            ]
            body = json.dumps({"results": results}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/querybatch"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_fresh_installation_has_no_findings_in_the_database(database_url: str) -> None:
    with advisories("none") as url:
        found = audit(settings_for(database_url, advisories_url=url))
    assert (found.breaches, found.keys_due, found.advisories.found) == ([], 0, {})
    assert found.advisories.asked
    assert found.grants["outcomes"]["sketchy_relay"] == "si"
    assert found.grants["dead_letters"]["sketchy_relay"] == "siU"
    assert not any(found.grants[table].get("anon") for table in found.grants)
    text = found.markdown()
    assert "| outcomes |  | si | s | s |" in text
    assert "- none in " in text


def test_what_is_wrong_is_found(database_url: str, connection: psycopg.Connection) -> None:
    connection.execute("grant select on orchestration.outbox to anon")
    connection.execute("create table orchestration.forgotten (id int)")
    with advisories("pydantic") as url:
        found = audit(
            settings_for(database_url, advisories_url=url, keys_rotated={"CRON_SECRET": "2020-01-31"})
        )
    assert found.breaches == [
        "orchestration.outbox grants SELECT to anon",
        "table orchestration.forgotten has no row level security",
    ]
    assert list(found.advisories.found.values()) == [["TEST-1"]]
    assert found.keys_due == 1
    text = found.markdown()
    for said in ("anon: s", "TEST-1", "CRON_SECRET is", "rotate it"):
        assert said in text


def test_advisories_that_cannot_be_had_are_no_good_news(unused_tcp_port: int) -> None:
    for url in ("", f"http://127.0.0.1:{unused_tcp_port}/", "nonsense"):
        known = known_vulnerabilities(url)
        assert not known.asked
        assert known.reason
        assert known.packages == len(installed()) > 20
    with advisories("none", status=500) as url:
        assert not known_vulnerabilities(url).asked


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_port_open_to_the_network_is_found(tmp_path: Any) -> None:
    script = tmp_path / "sketchy_listens.py"
    script.write_text(
        "import socket, sys\n"
        "s = socket.socket(); s.bind((sys.argv[1], 0)); s.listen()\n"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()\n",
        encoding="utf-8",
    )

    def ports() -> set[int]:
        return {one.port for one in listeners()[0]}

    for address, is_found in (("0.0.0.0", True), ("127.0.0.1", False)):  # noqa: S104  what is looked for
        process = subprocess.Popen(
            [sys.executable, str(script), address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert wait_until(lambda p=port, f=is_found: (p in ports()) is f, seconds=5)  # type: ignore[misc]
        process.communicate("", timeout=10)


@pytest.mark.parametrize("fails", [True, False])
def test_as_a_job(
    database_url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    connection.execute("grant select on orchestration.outbox to anon")
    monkeypatch.setenv("ADVISORIES_URL", "")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            run_config={"ops": {"look_for_weaknesses": {"config": {"fail_on_findings": fails}}}},
            resources={"postgres": PostgresResource(database_url=database_url)},
            instance=instance,
            raise_on_error=False,
        )
    assert result.success is not fails
