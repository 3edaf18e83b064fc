"""sketchy dead-letters: events given up; have them sent again, or discard them."""

from __future__ import annotations

import getpass
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from psycopg import Connection
from rich.console import Console
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database import dead_letters
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.database.dead_letters import Act, Chosen, DeadLetterError

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

_AGE = re.compile(r"^(?P<number>\d+(\.\d+)?)(?P<unit>[smhd])$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Ids = Annotated[list[str] | None, typer.Argument(help="Events by id.", metavar="[EVENT_ID]...")]
Game = Annotated[str | None, typer.Option("--game", help="Only of this game.")]
Type = Annotated[str | None, typer.Option("--type", help="Only of this event type.")]
DeadReason = Annotated[
    str | None, typer.Option("--dead-reason", help="Only dead of this: too_large, invalid, timeout ...")
]
Since = Annotated[
    str | None, typer.Option("--since", help="Only dead since: 30m, 2h, 1d, or 2026-01-31T12:00 (UTC).")
]
Until = Annotated[str | None, typer.Option("--until", help="Only dead before; written like --since.")]
Over = Annotated[bool, typer.Option("--game-over", help="Only of games that are over.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
Reason = Annotated[str, typer.Option("--reason", help="Why you do it; kept with your name.")]
Yes = Annotated[
    bool, typer.Option("--yes", help="Do it; without it, more than one letter is only shown what would be.")
]
Limit = Annotated[
    int, typer.Option("--limit", min=1, max=dead_letters.MOST, help="Letters at most, oldest first.")
]


def _connection() -> Connection[Row]:
    return connect(joined_settings(), Role.operator, application_name="sketchy dead-letters")


def _uuid(word: str, what: str) -> UUID:
    try:
        return UUID(word)
    except ValueError:
        raise DeadLetterError(f"{word!r} is no {what} id; an id looks like 3f0c...-....") from None


def _moment(word: str | None) -> datetime | None:
    if word is None:
        return None
    if age := _AGE.match(word):
        return datetime.now(UTC) - timedelta(**{_UNITS[age["unit"]]: float(age["number"])})
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        raise DeadLetterError(f"{word!r} is no time: write 30m, 2h, 1d or 2026-01-31T12:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _chosen(
    ids: list[str] | None,
    game: str | None,
    type_: str | None,
    dead_reason: str | None,
    since: str | None,
    until: str | None,
    over: bool,
) -> Chosen:
    return Chosen(
        [_uuid(word, "event") for word in ids] if ids else None,
        None if game is None else _uuid(game, "game"),
        type_,
        dead_reason,
        _moment(since),
        _moment(until),
        over,
    )


@app.command("list")
def list_letters(
    game: Game = None,
    type_: Type = None,
    dead_reason: DeadReason = None,
    since: Since = None,
    until: Until = None,
    game_over: Over = False,
    all_: bool = typer.Option(False, "--all", help="Also those sent again or discarded."),
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Events given up that wait for a person, oldest first.

    \b
    Examples:
      sketchy dead-letters list
      sketchy dead-letters list --dead-reason too_large --since 2h
    """
    chosen = _chosen(None, game, type_, dead_reason, since, until, game_over)
    with _connection() as connection:
        rows = dead_letters.listed(connection, chosen, settled=all_, limit=limit)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, default=str))
        return
    shown = Table("event", "game", "seq", "type", "dead of", "tries", "dead at (UTC)", "state")
    for row in rows:
        shown.add_row(
            str(row["event_id"]),
            f"{row['game_id']}{'' if row['game_lives'] else ' (over)'}" if row["game_id"] else "none",
            "" if row["seq"] is None else str(row["seq"]),
            row["type"],
            row["reason"],
            str(row["attempts"]),
            f"{row['dead_at']:%m-%d %H:%M:%S}",
            row["state"],
        )
    Console().print(shown if rows else "no dead letters")


@app.command()
def show(event: str = typer.Argument(help="The event's id."), as_json: Json = False) -> None:
    """Everything about one: payload, last answer, attempts, who did what to it and why.

    \b
    Example:
      sketchy dead-letters show 3f0c2b9e-6a53-4b0e-9a53-0d6b3f2f9a11
    """
    with _connection() as connection:
        found = dead_letters.whole(connection, _uuid(event, "event"))
    if as_json:
        typer.echo(json.dumps(found, indent=2, default=str))
        return
    console, rows = Console(), Table.grid(padding=(0, 2))
    for name, value in found.items():
        if name != "acts" and value is not None:
            text = json.dumps(value, indent=2) if isinstance(value, dict | list) else str(value)
            rows.add_row(name, text)
    console.print(rows, markup=False, highlight=False)
    for each in found["acts"]:
        console.print(f"{each['at']}  {each['action']} by {each['by']}: {each['reason']}", markup=False)


@app.command()
def replay(
    ids: Ids = None,
    *,
    reason: Reason,
    game: Game = None,
    type_: Type = None,
    dead_reason: DeadReason = None,
    since: Since = None,
    until: Until = None,
    game_over: Over = False,
    yes: Yes = False,
    limit: Limit = 1000,
    wait: float = typer.Option(10.0, "--wait", min=0, max=3600, help="Seconds to wait for the answers."),
    as_json: Json = False,
) -> None:
    """Have letters sent again, with the same eventId and `replayed: true`, each game's in its order.

    The fan-out shift that holds the game's lane sends them, at the allowed rate, once it may send.

    \b
    Examples:
      sketchy dead-letters replay 3f0c2b9e-6a53-4b0e-9a53-0d6b3f2f9a11 --reason "channel was repaired"
      sketchy dead-letters replay --dead-reason server_error --since 2h --reason "incident 12" --yes
    """
    chosen = _chosen(ids, game, type_, dead_reason, since, until, game_over)
    with _connection() as connection:
        done, dry_run = _act(connection, Act.replay, chosen, reason, yes, limit)
        asked = [one.event_id for one in done]
        ended = None if dry_run or not asked else dead_letters.wait_for_replays(connection, asked, wait)
    _tell(done, dry_run, as_json, ended)
    if ended is not None and ended.refused:
        raise DeadLetterError(f"{ended.refused} were refused again: `sketchy dead-letters show` says why")


@app.command()
def discard(
    ids: Ids = None,
    *,
    reason: Reason,
    game: Game = None,
    type_: Type = None,
    dead_reason: DeadReason = None,
    since: Since = None,
    until: Until = None,
    game_over: Over = False,
    yes: Yes = False,
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """Give letters up for good; they stay on record until retention takes them.

    \b
    Example:
      sketchy dead-letters discard --game-over --reason "nobody is there any more" --yes
    """
    chosen = _chosen(ids, game, type_, dead_reason, since, until, game_over)
    with _connection() as connection:
        done, dry_run = _act(connection, Act.discard, chosen, reason, yes, limit)
    _tell(done, dry_run, as_json)


def _act(
    connection: Connection[Row], action: Act, chosen: Chosen, reason: str, yes: bool, limit: int
) -> tuple[list[dead_letters.Acted], bool]:
    if chosen == Chosen():
        raise DeadLetterError(
            "name letters by id, or say which with --game, --type, --dead-reason, --since ..."
        )
    dry_run = not yes and not chosen.one
    by = getpass.getuser()
    done = dead_letters.act(connection, action, chosen, by=by, reason=reason, limit=limit, dry_run=dry_run)
    return done, dry_run


def _tell(
    done: list[dead_letters.Acted], dry_run: bool, as_json: bool, ended: dead_letters.Replayed | None = None
) -> None:
    if as_json:
        told: dict[str, Any] = {"dry_run": dry_run, "letters": done}
        told |= (
            {"accepted": ended.accepted, "refused": ended.refused, "waiting": ended.waiting} if ended else {}
        )
        typer.echo(json.dumps(told, indent=2, default=_plain))
        return
    for one in done:
        typer.echo(f"{one.event_id}  {one.type:<18} {'would be: ' if dry_run else ''}{one.outcome}")
    if dry_run:
        typer.echo(f"{len(done)} letters; nothing was changed: give --yes to do it")
    elif ended is not None:
        typer.echo(
            f"{ended.accepted} accepted, {ended.refused} refused, {ended.waiting} still wait to be sent"
        )
    else:
        typer.echo(f"{len(done)} letters")


def _plain(value: object) -> Any:
    from dataclasses import asdict, is_dataclass

    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
