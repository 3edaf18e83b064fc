"""/health, /ready and /metrics."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from sketchy_orchestration.domain.health import Check, Status, of_failed_database
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.gateway.failures import answer
from sketchy_orchestration.gateway.parts import Gateway, gateway_of
from sketchy_orchestration.monitoring.health import as_json

_PATIENCE = 2.0


async def health(request: Request) -> Response:
    """200 while the process lives; `status` and `checks` say how the whole system fares."""
    gateway = gateway_of(request)
    try:
        async with asyncio.timeout(_PATIENCE):
            checks = await asyncio.to_thread(gateway.watch.checks, pooler=_pooler(gateway))
    except TimeoutError:
        checks = [of_failed_database(f"no answer within {_PATIENCE:g} s")]
    return answer(as_json(checks))


async def ready(request: Request) -> Response:
    """200 when requests may come: the pool is warm, the database answers, the schema is there; else 503."""
    gateway = gateway_of(request)
    began = time.perf_counter()
    problem = await _database_problem(gateway)
    if problem is None:
        gateway.unready_since = None
    elif gateway.unready_since is None:
        gateway.unready_since = began
    check = Check(
        "database",
        Status.ok if problem is None else Status.failing,
        problem or "answers",
        "" if problem is None else "see docs/runbooks/gateway-down.md",
        None if gateway.unready_since is None else began - gateway.unready_since,
        (time.perf_counter() - began) * 1000,
        (("pooler", _pooler(gateway)), *gateway.database.stats().items()),
    )
    if problem is None:
        return answer(as_json([check]))
    return answer(as_json([check]), 503, {"Retry-After": "1"})


def _pooler(gateway: Gateway) -> str:
    return "transaction mode" if gateway.database.pooled else "none"


async def _database_problem(gateway: Gateway) -> str | None:
    if not gateway.database.warm:
        return "its connections are not all open yet"
    try:
        async with asyncio.timeout(_PATIENCE):
            installed = await gateway.database.installed()
    except TimeoutError:
        return f"no answer within {_PATIENCE:g} s"
    except SketchyError as error:
        return str(error)
    return None if installed else "the migrations are not applied"


async def metrics(request: Request) -> Response:
    """For Prometheus: this process, and the whole system as its tables tell it."""
    gateway = gateway_of(request)
    system = await asyncio.to_thread(gateway.watch.exposition)
    return Response(gateway.telemetry.exposition() + system, headers={"content-type": CONTENT_TYPE_LATEST})
