"""sketchy probe: how long a message takes from here, through PubNub, and back."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import asdict

import psycopg
import typer

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.monitoring.canary import Canary, Flight, summary
from sketchy_orchestration.monitoring.watch import record
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.settings import Settings, settings


def probe(
    count: int = typer.Option(10, min=1, max=10_000, help="How many canaries."),
    interval: float = typer.Option(0.2, min=0, max=60, help="Seconds between two."),
    region: str = typer.Option("", help="Where this is, for the record; default: the setting REGION."),
    keep: bool = typer.Option(True, help="Write the result to the database, where there is one."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable."),
) -> None:
    """Publish canaries and hear them; needs only the PubNub keys. Exit code 1 when one was lost.

    Example: REGION=us-east sketchy probe --count 50
    """
    try:
        chosen = joined_settings()
    except SketchyError:
        chosen = settings()
    where = region or chosen.region
    flights = asyncio.run(_fly(Keyset.of(chosen), where, count, interval))
    kept = keep and _record(chosen, flights, where)
    found = summary(flights)
    if as_json:
        typer.echo(json.dumps({"region": where, **asdict(found), "recorded": kept}, indent=2))
    else:
        typer.echo(
            f"{where}: {found.sent} sent, {found.lost} lost; p50 {found.p50_ms:.1f} ms,"
            f" p95 {found.p95_ms:.1f} ms, max {found.max_ms:.1f} ms" + (f"; {found.why}" if found.why else "")
        )
    if found.lost:
        raise typer.Exit(1)


async def _fly(keyset: Keyset, region: str, count: int, interval: float) -> list[Flight]:
    flights = []
    async with Canary(keyset, region) as canary:
        for number in range(count):
            if number:
                await asyncio.sleep(interval)
            flights.append(await canary.fly())
    return flights


def _record(settings: Settings, flights: list[Flight], region: str) -> bool:
    with (
        suppress(SketchyError, psycopg.Error),
        connect(settings, Role.operator, application_name="sketchy probe") as connection,
    ):
        record(connection, flights, region)
        return True
    return False
