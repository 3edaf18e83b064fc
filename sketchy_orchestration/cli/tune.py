"""sketchy tune: thresholds that the last days' measurements propose; changes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.delivery.tuning import propose
from sketchy_orchestration.monitoring.rules import RULES


def tune(
    days: float = typer.Option(7.0, "--days", min=0.01, max=90, help="How far back is looked."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable, one array."),
) -> None:
    """Propose limits of the rollout plan, of alerts and of flags from what was measured; changes nothing.

    \b
    Examples:
      sketchy tune
      sketchy tune --days 2 --json
    """
    settings = joined_settings()
    with connect(settings, Role.operator, application_name="sketchy tune", autocommit=False) as connection:
        connection.read_only = True
        found = propose(connection, {rule.name: rule.limit for rule in RULES}, days)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    shown = Table("threshold", "where", "now", "proposed", "because")
    for each in found:
        proposed = (
            "-"
            if each.proposed is None
            else "as it is"
            if each.proposed == each.now
            else f"{each.proposed:g}"
        )
        shown.add_row(each.name, each.where, f"{each.now:g}", proposed, each.because)
    Console().print(shown)
    typer.echo("nothing was changed")
