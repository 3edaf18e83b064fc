"""sketchy migrate: install our schema in a database, update it, look at it, take it out."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database import flags, migrate
from sketchy_orchestration.database.connect import DatabaseNotSetError, Role, connect
from sketchy_orchestration.database.migration_plan import State
from sketchy_orchestration.errors import SketchyError

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

_PATIENCE = typer.Option(
    migrate.PATIENCE,
    min=0,
    help="Seconds to go on trying for a lock before giving up and naming who holds it.",
)
_COLOURS = {"applied": "green", "pending": "yellow", "changed": "red", "unknown": "red"}


class NotAsMigratedError(SketchyError):
    """`verify` found something."""


def _url() -> str:
    url = joined_settings().database_url
    if url is None:
        raise DatabaseNotSetError(
            'DATABASE_URL is not set: set it, or start the local stack and run eval "$(sketchy env)"'
        )
    return url.get_secret_value()


def _tell(step: migrate.Step) -> None:
    tries = f", {step.tries} tries" if step.tries > 1 else ""
    wait = f", others waited up to {step.worst_wait * 1000:.0f} ms" if step.worst_wait else ""
    name = f"{step.number:04d}_{step.name}"
    Console().print(
        f"  [green]done[/] {name:<32} {step.seconds * 1000:6.1f} ms{tries}{wait}", highlight=False
    )


def _plan(names: list[str], way: str) -> None:
    console = Console()
    console.print(f"would go {way} through {len(names)} migrations:" if names else "nothing to do")
    for name in names:
        console.print(f"  {name}", highlight=False)


@app.command()
def up(
    to: int | None = typer.Option(None, "--to", min=0, help="Stop after this number (default: the last)."),
    with_application: bool = typer.Option(
        False,
        "--with-application",
        help="First make the application's own tables where they are missing (tests).",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done and change nothing."),
    patience: float = _PATIENCE,
) -> None:
    """Apply the migrations that are pending. Safe to run again, and while games are played."""
    url = _url()
    if dry_run:
        _plan([str(m) for m in migrate.pending(url, to)], "up")
        return
    if with_application:
        from sketchy_orchestration.local.application import install

        if install(url):
            Console().print("made the application's tables")
    steps = migrate.migrate_up(url, to, patience=patience, told=_tell)
    if to is None:
        joined = joined_settings()
        with connect(joined, Role.owner, application_name="sketchy migrate") as connection:
            flags.apply_environment(connection, joined)
    Console().print(f"{len(steps)} migrations applied" if steps else "nothing to do: everything is applied")


@app.command()
def down(
    to: int = typer.Option(
        0, "--to", min=0, help="The number to go down to; 0 takes out everything of ours."
    ),
    discard: bool = typer.Option(
        False, "--discard", help="Go on even when events wait or enrolled games live."
    ),
    reason: str | None = typer.Option(
        None, "--reason", help="Why what is waiting may be lost; needs --discard."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done and change nothing."),
    patience: float = _PATIENCE,
) -> None:
    """Take migrations back, exactly. Refuses while events wait or enrolled games live."""
    if discard != (reason is not None):
        raise migrate.DownRefusedError(
            '--discard and --reason "..." go together: say what may be lost and why'
        )
    url = _url()
    if dry_run:
        would, against = migrate.way_down(url, to)
        _plan([str(m) for m in would], "down")
        for one in against if would else []:
            Console().print(f"against it: {one}", highlight=False)
        return
    steps = migrate.migrate_down(url, to, reason, patience=patience, told=_tell)
    Console().print(f"{len(steps)} migrations taken back" if steps else "nothing to do")


@app.command()
def status(as_json: bool = typer.Option(False, "--json", help="Machine-readable, one array.")) -> None:
    """Every migration: applied, pending, changed since, or unknown to this version."""
    found = migrate.status(_url())
    if as_json:
        typer.echo(json.dumps([_plain(one) for one in found], indent=2))
        return
    table = Table("migration", "state", "applied at", "by", "version")
    for one in found:
        at = f"{one.applied_at:%Y-%m-%d %H:%M:%S %Z}" if one.applied_at else ""
        state = f"[{_COLOURS[one.state]}]{one.state}[/]"
        table.add_row(f"{one.number:04d}_{one.name}", state, at, one.applied_by or "", one.version or "")
    Console().print(table)


@app.command()
def verify(
    as_json: bool = typer.Option(False, "--json", help="Machine-readable: an array of the differences."),
) -> None:
    """Compare the database with what the migrations made of it. Exit code 1 when something differs."""
    problems = migrate.verify(_url())
    if as_json:
        typer.echo(json.dumps([str(problem) for problem in problems], indent=2))
        raise typer.Exit(1 if problems else 0)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise NotAsMigratedError(f"{len(problems)} differences from what the migrations make")
    Console().print("[green]as the migrations made it[/]")


def _plain(one: State) -> dict[str, object]:
    return {**asdict(one), "applied_at": one.applied_at.isoformat() if one.applied_at else None}
