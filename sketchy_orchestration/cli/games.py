"""sketchy games: what happened to a game, and what an operator may do about it."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from datetime import UTC, datetime
from uuid import UUID

import typer
from psycopg import Connection
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database import games
from sketchy_orchestration.database.connect import Role, Row, connect

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

_IDS = typer.Argument(None, help="Games by id.", metavar="[ID]...")
_ALL = typer.Option(False, "--all-live", help="Every live game that this system handles.")
_REASON = typer.Option(..., "--reason", help="Why; kept with the act.")
_YES = typer.Option(
    False, "--yes", help="Do it; without it, an act on more than one game only says what it would do."
)


def _connection() -> Connection[Row]:
    return connect(joined_settings(), Role.operator, application_name="sketchy games")


def utc(moment: object, shape: str = "%H:%M:%S.%f") -> str:
    """A moment of the database in UTC, to the millisecond where `shape` says no other."""
    assert isinstance(moment, datetime), "only moments are asked for"  # noqa: S101
    told = moment.astimezone(UTC).strftime(shape)
    return told[:-3] if shape.endswith("%f") else told


def _ids(words: list[str] | None) -> list[UUID]:
    found = []
    for word in words or []:
        try:
            found.append(UUID(word))
        except ValueError:
            raise games.GameActError(f"{word!r} is no game id; an id looks like 3f0c...-....") from None
    return found


def _act(
    action: games.Act,
    words: list[str] | None,
    everything: bool,
    reason: str,
    yes: bool,
    seconds: int | None = None,
) -> None:
    ids = _ids(words)
    if everything == bool(ids):
        raise games.GameActError("name games by id, or give --all-live, and not both")
    dry_run = not yes and (everything or len(ids) > 1)
    with _connection() as connection:
        done = games.act(
            connection,
            action,
            None if everything else ids,
            by=getpass.getuser(),
            reason=reason,
            seconds=seconds,
            dry_run=dry_run,
        )
    missing = set(ids) - {one.game_id for one in done}
    for one in done:
        would = "would be: " if dry_run and not one.outcome.startswith(("is ", "has ")) else ""
        typer.echo(f"{one.game_id}  {one.phase:<9} {would}{one.outcome}")
    if dry_run:
        typer.echo(f"{len(done)} games; nothing was changed: give --yes to do it")
    if missing:
        raise games.GameActError(
            f"not live, or not handled by this system: {', '.join(str(one) for one in sorted(missing))}"
        )


@app.command()
def show(
    game: str = typer.Argument(help="The game's id."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable."),
) -> None:
    """Everything that happened to a game: phases, deadlines, events, attempts, acceptances, operator acts.

    \b
    Example:
      sketchy games show 3f0c2b9e-6a53-4b0e-9a53-0d6b3f2f9a11
    """
    (game_id,) = _ids([game])
    with _connection() as connection:
        who = games.handler(connection, game_id)
        moments = games.timeline(connection, game_id)
    if who is None and not moments:
        raise games.GameActError(
            f"nothing is known of game {game_id}: it is older than the installation, or none"
        )
    if as_json:
        typer.echo(
            json.dumps({"game": who, "timeline": [asdict(one) for one in moments]}, indent=2, default=str)
        )
        return
    console = Console()
    if who is not None:
        since = utc(who["decided_at"], "%Y-%m-%d %H:%M:%S")
        until = f" until {utc(who['deadline'])}" if who["deadline"] and not who["paused"] else ""
        console.print(
            f"game {game_id}: handled by {who['handler']} since {since}, "
            f"now {who['phase'] or 'over'}{until}{', paused' if who['paused'] else ''} (UTC)",
            highlight=False,
            soft_wrap=True,
        )
        if who["set_aside_error"]:
            told = escape(f"until {utc(who['retry_at'])}: {who['set_aside_error']}")
            console.print(f"[red]set aside[/] {told}", highlight=False, soft_wrap=True)
    table = Table("at (UTC)", "kind", "seq", "what", "detail", "request")
    for one in moments:
        table.add_row(
            utc(one.at),
            one.kind,
            "" if one.seq is None else str(one.seq),
            escape(one.what),
            escape(one.detail),
            escape(one.request_id or ""),
        )
    console.print(table)


@app.command()
def pause(
    ids: list[str] | None = _IDS, all_live: bool = _ALL, reason: str = _REASON, yes: bool = _YES
) -> None:
    """Stop the clock of games; `resume` gives them back the time they had left."""
    _act(games.Act.pause, ids, all_live, reason, yes)


@app.command()
def resume(
    ids: list[str] | None = _IDS, all_live: bool = _ALL, reason: str = _REASON, yes: bool = _YES
) -> None:
    """Let paused games go on with the time they had left."""
    _act(games.Act.resume, ids, all_live, reason, yes)


@app.command()
def extend(
    ids: list[str] | None = _IDS,
    seconds: int = typer.Option(..., "--seconds", min=1, max=3600, help="How much longer the phase lasts."),
    all_live: bool = _ALL,
    reason: str = _REASON,
    yes: bool = _YES,
) -> None:
    """Give the phase that games are in more time; players hear of it at once."""
    _act(games.Act.extend, ids, all_live, reason, yes, seconds)


@app.command()
def advance(
    ids: list[str] | None = _IDS, all_live: bool = _ALL, reason: str = _REASON, yes: bool = _YES
) -> None:
    """Move games to their next phase now, whether or not their deadline has come."""
    _act(games.Act.advance, ids, all_live, reason, yes)


@app.command()
def sync(ids: list[str] | None = _IDS, all_live: bool = _ALL, reason: str = _REASON) -> None:
    """Tell the players of running games the time now: phase, deadline, seconds left."""
    chosen = _ids(ids)
    if all_live == bool(chosen):
        raise games.GameActError("name games by id, or give --all-live, and not both")
    with _connection() as connection:
        count = games.sync(connection, chosen or None, by=getpass.getuser(), reason=reason)
    typer.echo(f"{count} running games are told the time")


@app.command()
def retry(ids: list[str] | None = _IDS, reason: str = _REASON) -> None:
    """Try games that are set aside again at once; without ids, all of them."""
    chosen = _ids(ids)
    with _connection() as connection:
        count = games.retry(connection, chosen or None, by=getpass.getuser(), reason=reason)
    typer.echo(f"{count} games will be tried again at the next sweep")


@app.command()
def drop(game: str = typer.Argument(help="The game's id."), reason: str = _REASON) -> None:
    """Give up a game that is set aside: cancelled where that can be done, else left to the application."""
    (game_id,) = _ids([game])
    with _connection() as connection:
        typer.echo(f"{game_id}: {games.drop(connection, game_id, by=getpass.getuser(), reason=reason)}")
