"""`sketchy play`: play games as the application does, and check what is heard against what was done."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from contextlib import nullcontext
from typing import Annotated
from uuid import UUID

import structlog
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database.connect import DatabaseNotSetError
from sketchy_orchestration.local.legacy import LegacyHandler, LegacySettings
from sketchy_orchestration.local.players.crowd import Crowd, Play, Progress
from sketchy_orchestration.local.players.game import Pace
from sketchy_orchestration.local.players.plan import Habits
from sketchy_orchestration.local.players.record import Rules
from sketchy_orchestration.local.players.report import Report, Spread
from sketchy_orchestration.pubnub.keyset import Keyset

_SHOWN = 10
_NOTE_EVERY_S = 60.0
_PHASES = ("waiting", "briefing", "drawing", "voting", "results")

log = structlog.get_logger(__name__)


def play(
    games: Annotated[int, typer.Option(help="How many games; with --forever, how many at any time.")] = 10,
    players: Annotated[int, typer.Option(help="Players of each game, 2 to 8.")] = 4,
    rate: Annotated[float, typer.Option(help="Games started per second.")] = 5.0,
    forever: Annotated[bool, typer.Option("--forever", help="Go on until interrupted.")] = False,
    round_seconds: Annotated[int, typer.Option(help="Length of drawing, 30 to 300.")] = 30,
    voting_seconds: Annotated[int, typer.Option(help="Length of voting, 15 to 120.")] = 15,
    speed: Annotated[
        float,
        typer.Option(help="Play so many times faster, by moving each deadline nearer as its phase begins."),
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same seed plans the same games.")] = None,
    cancels: Annotated[float, typer.Option(help="Part of the games that is cancelled, 0 to 1.")] = 0.0,
    connections: Annotated[int, typer.Option(help="Database connections for all players.")] = 4,
    ids: Annotated[
        list[UUID] | None, typer.Option("--id", help="A game's id, instead of a new one; may be repeated.")
    ] = None,
    allow_repeats: Annotated[
        bool,
        typer.Option("--allow-repeats", help="Count events heard again instead of failing (after crashes)."),
    ] = False,
    allow_given_up: Annotated[
        bool,
        typer.Option("--allow-given-up", help="Count gaps that dead letters explain instead of failing."),
    ] = False,
    with_legacy: Annotated[
        bool, typer.Option("--with-legacy", help="Also run the legacy handler, for games that are its own.")
    ] = False,
    legacy_every: Annotated[
        float, typer.Option(help="Seconds between two sweeps of the legacy handler.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Play games as the application does and check what is heard. Exit code 1 when a promise was broken."""
    known = joined_settings()
    keyset = Keyset.of(known)
    if known.database_url is None:
        raise DatabaseNotSetError(
            'DATABASE_URL is not set: set it, or start the local stack and run eval "$(sketchy env)"'
        )
    url = known.database_url.get_secret_value()
    wanted = Play(
        games=games,
        players=players,
        rate=rate,
        forever=forever,
        pace=Pace(round_seconds=round_seconds, voting_seconds=voting_seconds, speed=speed),
        habits=Habits(cancels=cancels),
        rules=Rules(repeats_allowed=allow_repeats, given_up_allowed=allow_given_up),
        seed=seed,
        connections=connections,
        ids=[str(each) for each in ids or ()],
    )
    wanted.refuse_wrong()
    # What libraries complain of comes back as errors and in the summary; on the screen it is in the way.
    for library in ("pubnub", "psycopg.pool"):
        logging.getLogger(library).addHandler(logging.NullHandler())
    # Standard output belongs to the summary.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    handler = LegacyHandler(url, keyset, LegacySettings(every_s=legacy_every))
    with handler if with_legacy else nullcontext():
        report = asyncio.run(_play(wanted, url, keyset, quiet=as_json))
    if as_json:
        sys.stdout.write(json.dumps(report.as_dict(), indent=2) + "\n")
    else:
        _show(report)
    if report.violations or not (report.kept or forever):
        raise typer.Exit(1)


async def _play(wanted: Play, url: str, keyset: Keyset, *, quiet: bool) -> Report:
    console = Console(stderr=True)
    notes = Notes()
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def tell(progress: Progress) -> None:
            if not console.is_terminal:
                notes.take(progress)
            elif not quiet:
                live.update(_screen(progress, wanted), refresh=True)

        crowd = Crowd(wanted, url, keyset, tell)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, crowd.stop)
        return await crowd.run()


class Notes:
    """Lines for a log, where there is no screen: how it stands once a minute, broken promises at once."""

    def __init__(self) -> None:
        self._told = 0
        self._next = time.monotonic() + _NOTE_EVERY_S

    def take(self, progress: Progress) -> None:
        examples = progress.tally.examples
        for violation in examples[self._told :]:
            log.warning("promise_broken", kind=violation.kind, game=violation.game_id, what=violation.text)
        self._told = len(examples)
        if time.monotonic() >= self._next:
            self._next += _NOTE_EVERY_S
            log.info(
                "playing",
                in_play=sum(progress.in_play.values()),
                finished=progress.finished,
                heard=progress.tally.heard,
                expected=progress.tally.expected,
                broken=progress.tally.violations.total(),
            )


def _screen(progress: Progress, wanted: Play) -> Table:
    table = Table(title=None if wanted.forever else f"{progress.finished} of {wanted.games} games played")
    for phase in _PHASES:
        table.add_column(phase, justify="right")
    for name in ("finished", "events heard", "broken promises"):
        table.add_column(name, justify="right")
    tally = progress.tally
    table.add_row(
        *(str(progress.in_play.get(phase, 0)) for phase in _PHASES),
        str(progress.finished),
        str(tally.heard),
        str(tally.violations.total()),
    )
    return table


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return f"{spread.p50:g} / {spread.p99:g} / {spread.max:g} ms ({spread.count})"


def _show(report: Report) -> None:
    console = Console()
    table = Table(title="What was played, done and heard", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    rows = [
        (
            "games",
            f"{report.completed} completed, {report.cancelled} cancelled, {report.unfinished} unfinished",
        ),
        ("of them legacy", str(report.legacy_games)),
        ("events", f"{report.events_heard} of {report.events_expected} heard, {report.repeats} repeats"),
        ("given up", str(report.given_up)),
        ("phase's end heard after its deadline, p50 / p99 / max", _spread(report.lateness)),
        ("event heard after the player's act, p50 / p99 / max", _spread(report.delivery)),
        ("player's statement, p50 / p99 / max", _spread(report.statements)),
        ("statements tried again", str(report.retries)),
        ("took", f"{report.seconds:g} s"),
    ]
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)
    if report.kept:
        console.print("[green]Every promise was kept.[/green]")
        return
    if not report.violations:
        console.print("[red]No game was finished.[/red]")
    for kind, count in sorted(report.violations.items()):
        console.print(f"[red]{kind}: {count}[/red]")
    for example in report.examples[:_SHOWN]:
        console.print(f"  {example}", markup=False, soft_wrap=True)
