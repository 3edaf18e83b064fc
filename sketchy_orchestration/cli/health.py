"""sketchy health: is everything well, since when not, and what to do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.domain.health import Check, Status
from sketchy_orchestration.monitoring import health as looking

_COLOURS = {Status.ok: "green", Status.warning: "yellow", Status.failing: "red"}


def health(
    as_json: bool = typer.Option(False, "--json", help="Machine-readable, as /health answers it."),
    gateway: bool = typer.Option(True, help="Also ask the gateway at GATEWAY_HOST and GATEWAY_PORT."),
) -> None:
    """Look at database, PubNub, shifts, daemon, games, outbox, partitions and gateway.

    Exit code 0: healthy, with or without warnings; 1: something fails.

    Example: sketchy health --no-gateway || echo "it says what to do"
    """
    checks = looking.look(joined_settings(), gateway=gateway)
    if as_json:
        typer.echo(json.dumps(looking.as_json(checks), indent=2))
    else:
        console = Console()
        console.print(_table(checks))
        console.print(_verdict(checks))
    if not all(check.healthy for check in checks):
        raise typer.Exit(1)


def _table(checks: list[Check]) -> Table:
    shown = Table.grid(padding=(0, 2))
    for column in ("status", "check"):
        shown.add_column(column, no_wrap=True)
    shown.add_column("said", ratio=1)
    shown.add_column("ms", justify="right", no_wrap=True)
    for check in checks:
        said = check.said
        if check.for_seconds is not None:
            said += f", since {datetime.now(UTC) - timedelta(seconds=check.for_seconds):%m-%d %H:%M:%S} UTC"
        if check.action:
            said += f"\n{check.action}"
        took = "" if check.latency_ms is None else f"{check.latency_ms:.1f} ms"
        shown.add_row(Text(str(check.status), _COLOURS[check.status]), check.name, Text(said), took)
    return shown


def _verdict(checks: list[Check]) -> str:
    failing = [check.name for check in checks if not check.healthy]
    warnings = [check.name for check in checks if check.status is Status.warning]
    if failing:
        return f"unhealthy: {', '.join(failing)}"
    return f"healthy, with warnings: {', '.join(warnings)}" if warnings else "healthy"
