"""sketchy settings: what can be set, what is set here, and files to begin with."""

from __future__ import annotations

import json

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from sketchy_orchestration.settings import Environment, settings
from sketchy_orchestration.settings_files import environment_file, grouped

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_settings(
    as_json: bool = typer.Option(False, "--json", help="Machine-readable, one array."),
) -> None:
    """Every setting, what it is in this process, and what it means; secrets only as set or not.

    \b
    Examples:
      sketchy settings list
      sketchy settings list --json | jq -r '.[] | select(.set) | .name'
    """
    here = settings()
    rows = [
        {
            "name": one.name,
            "group": group.title,
            "set": one.name.lower() in here.model_fields_set,
            "value": _shown(getattr(here, one.name.lower())),
            "default": one.default,
            "allowed": one.allowed,
            "secret": one.secret,
            "description": one.description,
        }
        for group, members in grouped()
        for one in members
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    shown = Table("setting", "value", "set", "what it is")
    for row in rows:
        shown.add_row(
            str(row["name"]), str(row["value"]), "yes" if row["set"] else "", str(row["description"])
        )
    Console().print(shown)


@app.command("file")
def print_file(
    environment: Environment = typer.Argument(help="For which environment."),  # noqa: B008  typer's way
) -> None:
    """Print a file of settings to begin with: every setting, explained.

    \b
    Example:
      sketchy settings file production > sketchy.env
    """
    typer.echo(environment_file(environment), nl=False)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return "(secret)" if isinstance(value, SecretStr) else str(value)
