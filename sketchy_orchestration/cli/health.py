"""sketchy health: is everything well, since when not, and what to do."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.domain.health import Status
from sketchy_orchestration.monitoring import health as looking

_COLOURS = {Status.ok: "green", Status.warning: "yellow", Status.failing: "red"}


def health(
    as_json: bool = typer.Option(False, "--json", help="Machine-readable, as /health answers it."),
    gateway: bool = typer.Option(True, help="Also ask the gateway at GATEWAY_HOST and GATEWAY_PORT."),
) -> None:
    """Look at database, PubNub, shifts, daemon, games, outbox, partitions and gateway.

    Exit code 0: healthy, with or without warnings; 1: something fails.

    Example: sketchy health --no-gateway || echo "see the action column"
    """
    checks = looking.look(joined_settings(), gateway=gateway)
    if as_json:
        typer.echo(json.dumps(looking.as_json(checks), indent=2))
    else:
        told = looking.as_json(checks)["checks"]
        shown = Table("check", "status", "said", "ms", "since", "what to do")
        for check in checks:
            colour = _COLOURS[check.status]
            took = "" if check.latency_ms is None else f"{check.latency_ms:.1f}"
            since = told[check.name]["since"] or ""
            shown.add_row(check.name, f"[{colour}]{check.status}", check.said, took, since, check.action)
        Console().print(shown)
    if not all(check.healthy for check in checks):
        raise typer.Exit(1)
