"""/health, /ready and /metrics."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from sketchy_orchestration import __version__
from sketchy_orchestration.domain.envelope import iso
from sketchy_orchestration.domain.health import of_failed_database
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.gateway.failures import Problem, RequestError, answer
from sketchy_orchestration.gateway.parts import Gateway, gateway_of
from sketchy_orchestration.monitoring.health import as_json

_PATIENCE = 2.0


async def health(request: Request) -> Response:
    """200 while the process lives; `status` and `checks` say how the whole system fares."""
    gateway = gateway_of(request)
    pooler = "transaction mode" if gateway.database.pooled else "none"
    try:
        async with asyncio.timeout(_PATIENCE):
            checks = await asyncio.to_thread(gateway.watch.checks, pooler=pooler)
    except TimeoutError:
        checks = [of_failed_database(f"no answer within {_PATIENCE:g} s")]
    return answer(as_json(checks))


async def ready(request: Request) -> Response:
    """Requests may come: the pool is warm, the database answers, the schema is there."""
    gateway = gateway_of(request)
    began = time.perf_counter()
    problem = await _database_problem(gateway)
    if problem is not None:
        raise RequestError(
            503, "not_ready", "not ready for requests", problems=[Problem("database", problem)], retry_after=1
        )
    return answer(
        {
            "status": "healthy",
            "checks": {
                "database": {
                    "healthy": True,
                    "latencyMs": round((time.perf_counter() - began) * 1000, 2),
                    "pooler": gateway.database.pooled,
                    **gateway.database.stats(),
                }
            },
            "version": __version__,
            "timestamp": iso(datetime.now(UTC)),
        }
    )


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
