"""Looks at everything a running system needs, and says what is well, since when not, and what to do."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg

from sketchy_orchestration import __version__
from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.database.monitoring import Signals
from sketchy_orchestration.domain import health
from sketchy_orchestration.domain.health import Check, Status
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

GATEWAY_SECONDS = 3.0


def look(settings: Settings, *, gateway: bool = True) -> list[Check]:
    """Look at everything, at most a few seconds; never raises for what is not well.

    Args:
        gateway: also ask the gateway whether it is ready.
    """
    checks = look_at_database(settings)
    if gateway:
        checks.append(look_at_gateway(f"http://{settings.gateway_host}:{settings.gateway_port}/ready"))
    return checks


def look_at_database(settings: Settings) -> list[Check]:
    """The database, and what its tables say of everything else."""
    try:
        with connect(
            settings, Role.operator, application_name="sketchy health", statement_timeout=5.0
        ) as connection:
            began = time.perf_counter()
            row = connection.execute("select pg_backend_pid()").fetchone()
            round_trip = (time.perf_counter() - began) * 1000
            began = time.perf_counter()
            signals = monitoring.signals(connection)
            read_ms = (time.perf_counter() - began) * 1000
            # A pooler answers with a process number of its own; one in transaction mode was refused above.
            pooler = "none" if row and row[0] == connection.info.backend_pid else "session mode"
    except (SketchyError, psycopg.Error) as error:
        missing = isinstance(error, psycopg.errors.InvalidSchemaName | psycopg.errors.UndefinedFunction)
        said = "the migrations are not applied" if missing else " ".join(str(error).split())
        return [health.of_failed_database(said)]
    return checks_of(round_trip, signals, pooler=pooler, read_ms=read_ms)


def checks_of(
    round_trip_ms: float,
    signals: Signals,
    *,
    pooler: str,
    numbers: tuple[tuple[str, float | str], ...] = (),
    read_ms: float | None = None,
) -> list[Check]:
    """Every check that signals answer; the gateway calls this with what its own pool read.

    Args:
        read_ms: how long it took to read the signals: the latency of checks that measure nothing else.
    """
    return [
        health.of_database(round_trip_ms, signals, pooler=pooler, numbers=numbers),
        *health.of_signals(signals, read_ms),
    ]


def look_at_gateway(url: str) -> Check:
    """The gateway says that requests may come."""
    began = time.perf_counter()
    action = "see docs/runbooks/gateway-down.md"
    try:
        with urllib.request.urlopen(url, timeout=GATEWAY_SECONDS) as answer:  # noqa: S310  our own address
            answer.read()
    except urllib.error.HTTPError as error:
        said = f"{url} answers {error.code}: {_said_by_gateway(error)}"
        return Check("gateway", Status.failing, said, action)
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        return Check("gateway", Status.failing, f"no answer at {url}: {why}", action)
    return Check("gateway", Status.ok, "is ready", latency_ms=(time.perf_counter() - began) * 1000)


def _said_by_gateway(error: urllib.error.HTTPError) -> str:
    """What is not well, in the gateway's own words: it answers in our shape."""
    try:
        checks = json.loads(error.read())["checks"]
        return "; ".join(f"{name} {check['said']}" for name, check in checks.items() if not check["healthy"])
    except (OSError, ValueError, KeyError, TypeError):
        return error.reason


def as_json(checks: list[Check], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> dict[str, Any]:
    """The one shape: status, checks by name, version, timestamp; see `domain.health`."""
    return health.as_json(checks, now(), __version__)
