"""sketchy releases: what runs where, since when, and which version each shift has."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database import releases as table
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.version import this_version


def releases(
    limit: int = typer.Option(10, min=1, max=1000, help="Most releases to show."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable."),
) -> None:
    """What runs where, since when, and which version each shift at work has."""
    settings = joined_settings()
    here = this_version(settings)
    with connect(settings, Role.operator, application_name="sketchy releases") as connection:
        known, shifts = table.releases(connection, limit), table.at_work(connection)
    if as_json:
        found = {
            "this_command": {**here.as_dict(), "label": here.label},
            "releases": [asdict(release) for release in known],
            "shifts": [asdict(shift) for shift in shifts],
        }
        typer.echo(json.dumps(found, indent=2, default=str))
        return
    console = Console()
    console.print(f"this command is {here.label} (migrations {here.migrations})", highlight=False)
    shown = Table("release", "migrations", "current", "where", "by", "why", title="Releases")
    for release in known:
        until = f"{release.current_until:%Y-%m-%d %H:%M:%S}" if release.current_until else "now"
        shown.add_row(
            release.label,
            release.migrations,
            f"{release.current_since:%Y-%m-%d %H:%M:%S} - {until}",
            ", ".join(f"{name} {value}" for name, value in release.placement.items()),
            release.made_by,
            release.reason,
        )
    console.print(shown if known else "no deployment has made a release current yet")
    shown = Table("kind", "release", "host", "process", "Dagster run", "since", "", title="Shifts at work")
    for shift in shifts:
        shown.add_row(
            shift.kind,
            shift.release or f"{shift.version} (older than releases)",
            shift.host,
            str(shift.pid),
            shift.dagster_run_id or "-",
            f"{shift.started_at:%Y-%m-%d %H:%M:%S}",
            "relieved" if shift.relieved else "" if shift.beats else "silent",
        )
    console.print(shown)
