"""Dagster's part of the local stack: its storage in our Postgres, its instance folder, its long runs' end."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import sql

SCHEMA = "dagster"
ROLE = "sketchy_dagster"
STORAGE_VARIABLE = "SKETCHY_DAGSTER_STORAGE_URL"
MODULE = "sketchy_orchestration.definitions"

# One creation at a time; the number is arbitrary.
_LOCK = 0x5C8E_DA65

_INSTANCE = f"""\
# Made by `sketchy up`; it is written anew at each start.
storage:
  postgres:
    postgres_url:
      env: {STORAGE_VARIABLE}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1
    max_concurrent_runs: 25
    tag_concurrency_limits:
      - {{key: sketchy/role, value: timer_shift, limit: 4}}
      - {{key: sketchy/role, value: fanout_shift, limit: 4}}
      - {{key: sketchy/role, value: pass, limit: 4}}
run_monitoring:
  enabled: true
  start_timeout_seconds: 30
  cancel_timeout_seconds: 15
  poll_interval_seconds: 2
  max_resume_run_attempts: 0
run_retries:
  enabled: false
sensors:
  use_threads: true
  num_workers: 4
schedules:
  use_threads: true
  num_workers: 2
retention:
  schedule:
    purge_after_days: {{skipped: 1, failure: 7, success: 7}}
  sensor:
    purge_after_days: {{skipped: 1, failure: 7, success: 7}}
compute_logs:
  module: dagster.core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
telemetry:
  enabled: false
nux:
  enabled: false
"""


def write_instance(folder: Path, code_server_port: int) -> Path:
    """Write dagster.yaml and workspace.yaml; the secret in them is only the name of a variable.

    Returns:
        The workspace file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dagster.yaml").write_text(_INSTANCE, encoding="utf-8")
    workspace = folder / "workspace.yaml"
    workspace.write_text(
        "load_from:\n"
        "  - grpc_server:\n"
        "      host: 127.0.0.1\n"
        f"      port: {code_server_port}\n"
        "      location_name: sketchy_orchestration\n",
        encoding="utf-8",
    )
    return workspace


def code_server_command(port: int, host: str = "127.0.0.1") -> list[str]:
    """The program that loads our definitions, once for all of Dagster's."""
    return [
        *(sys.executable, "-m", "dagster", "api", "grpc", "-m", MODULE),
        *("--host", host, "--port", str(port), "--use-python-environment-entry-point"),
        *("--location-name", "sketchy_orchestration"),
    ]


def daemon_command(workspace: Path) -> list[str]:
    """The program that evaluates sensors and schedules and starts runs."""
    return [sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace)]


def webserver_command(workspace: Path, port: int) -> list[str]:
    """The program of the UI."""
    address = ("-h", "127.0.0.1", "-p", str(port))
    return [sys.executable, "-m", "dagster_webserver", *address, "-w", str(workspace)]


def prepare_storage(url: str, password: str | None) -> str:
    """Make the schema Dagster keeps its runs in, and with `password` a role of its own for it.

    Without a password (a database of somebody else's) Dagster uses the role of `url`.

    Returns:
        The connection URL for dagster-postgres, with the driver it works with.
    """
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as conn, conn.transaction():
        conn.execute("set local client_min_messages = warning")
        conn.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        if password is None:
            conn.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(SCHEMA)))
            return _storage_url(url, extra_options=f"-csearch_path={SCHEMA}")
        role, schema = sql.Identifier(ROLE), sql.Identifier(SCHEMA)
        known = conn.execute("select 1 from pg_roles where rolname = %s", [ROLE]).fetchone()
        # The password is set each time: a role belongs to the cluster, the secrets file to this home folder.
        conn.execute(
            sql.SQL("{} role {} login password {}").format(
                sql.SQL("alter" if known else "create"), role, sql.Literal(password)
            )
        )
        conn.execute(sql.SQL("grant {} to current_user").format(role))
        conn.execute(sql.SQL("create schema if not exists {} authorization {}").format(schema, role))
        conn.execute(
            sql.SQL("alter role {} in database {} set search_path = {}").format(
                role, sql.Identifier(conn.info.dbname), schema
            )
        )
    return _storage_url(url, user=ROLE, password=password)


def _storage_url(
    url: str, *, user: str | None = None, password: str | None = None, extra_options: str | None = None
) -> str:
    parts = urlsplit(url)
    place = parts.netloc
    if user is not None and password is not None:
        place = f"{quote(user)}:{quote(password)}@{parts.netloc.rpartition('@')[2]}"
    values = dict(parse_qsl(parts.query))
    if extra_options:
        values["options"] = f"{values.get('options', '')} {extra_options}".strip()
    # A bare postgresql:// would pick psycopg 3, with which dagster-postgres cannot notify.
    return urlunsplit(("postgresql+psycopg2", place, parts.path, urlencode(values, quote_via=quote), ""))


def has_storage(url: str) -> bool:
    """Whether Dagster's tables are there from an earlier start."""
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as conn:
        row = conn.execute("select to_regclass('dagster.daemon_heartbeats') is not null").fetchone()
    return bool(row and row[0])


def daemon_beats(url: str) -> bool:
    """Whether Dagster's daemon has reported itself within the last half minute."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
            row = conn.execute(
                "select count(*) from dagster.daemon_heartbeats"
                " where timestamp > (now() at time zone 'UTC') - interval '30 seconds'"
            ).fetchone()
    except psycopg.Error:
        return False
    return bool(row and row[0])


_ALIVE = "[QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]"


def unfinished_runs(webserver: str, *, seconds: float = 10.0) -> list[str]:
    """The ids of the runs that live; none when Dagster does not answer."""
    found = _ask(
        webserver,
        f"{{ runsOrError(filter: {{statuses: {_ALIVE}}}) {{ ... on Runs {{ results {{ runId }} }} }} }}",
        {},
        seconds,
    )
    return [run["runId"] for run in found.get("runsOrError", {}).get("results", [])]


def terminate_runs(webserver: str, *, seconds: float = 10.0) -> int:
    """Ask Dagster to end every run that lives, the long ones first of all.

    Returns:
        How many there were; 0 when Dagster does not answer.
    """
    ids = unfinished_runs(webserver, seconds=seconds)
    if ids:
        _ask(
            webserver,
            "mutation ($ids: [String!]!) { terminateRuns(runIds: $ids, terminatePolicy: SAFE_TERMINATE)"
            " { __typename } }",
            {"ids": ids},
            seconds,
        )
    return len(ids)


def _ask(webserver: str, text: str, variables: dict[str, Any], seconds: float) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310  an address of our own making
        f"{webserver}/graphql",
        data=json.dumps({"query": text, "variables": variables}).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as response:
            answer: dict[str, Any] = json.load(response)
    except (OSError, ValueError):
        return {}
    return answer.get("data") or {}
