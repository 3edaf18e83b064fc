"""sketchy timers: how exactly phases end, what is due next, what is set aside."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import timedelta

import typer
from psycopg import Connection
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table

from sketchy_orchestration.cli.games import utc
from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database import games
from sketchy_orchestration.database.connect import Role, Row, connect

SHOWN = 8
"""Rows of the next deadlines, and of what is set aside."""


def timers(
    minutes: float = typer.Option(5.0, "--minutes", min=0.1, max=1440, help="The window looked at."),
    watch: bool = typer.Option(False, "--watch", help="Go on, once a second, until Ctrl-C."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable, once."),
) -> None:
    """How late transitions are now and were in a window, what is due next, which games are set aside.

    \b
    Examples:
      sketchy timers
      sketchy timers --minutes 60
      sketchy timers --watch --minutes 1
    """
    window = timedelta(minutes=minutes)
    with connect(joined_settings(), Role.operator, application_name="sketchy timers") as connection:
        if as_json:
            found = {
                "live": asdict(games.lateness(connection, games.LIVE)),
                "lateness": asdict(games.lateness(connection, window)),
                "next_deadlines": games.next_deadlines(connection, SHOWN),
                "set_aside": games.set_aside(connection, SHOWN),
            }
            typer.echo(json.dumps(found, indent=2, default=str))
        elif watch:
            with Live(_screen(connection, window), refresh_per_second=4) as live:
                while True:
                    time.sleep(1)
                    live.update(_screen(connection, window))
        else:
            Console().print(_screen(connection, window))


def _screen(connection: Connection[Row], window: timedelta) -> Group:
    numbers = Table("transitions by the timer", "how many", "p50", "p95", "p99", "max", "early", "rebased")
    for span in (games.LIVE, window):
        late = games.lateness(connection, span)
        shown = [f"{value:.1f} ms" for value in late.percentiles] if late.percentiles else ["-"] * 3
        largest = "-" if late.largest is None else f"{late.largest:.1f} ms"
        count = str(late.transitions)
        numbers.add_row(f"last {_told(span)}", count, *shown, largest, str(late.early), str(late.rebased))
    due = Table("next deadline", "phase", _id("game"))
    for row in games.next_deadlines(connection, SHOWN):
        due.add_row(_in(float(str(row["next_in"]))), str(row["phase"]), str(row["game_id"]))
    aside = games.set_aside(connection, SHOWN)
    if not aside:
        return Group(numbers, due, "nothing is set aside")
    table = Table(_id("set aside"), "phase", "tries", "again at (UTC)", "error")
    for row in aside:
        table.add_row(
            str(row["game_id"]),
            str(row["phase"]),
            str(row["attempts"]),
            utc(row["retry_at"], "%H:%M:%S"),
            escape(f"{row['error']} ({row['sqlstate']})"),
        )
    return Group(numbers, due, table)


def _id(name: str) -> Column:
    """A column whose ids can be copied, however narrow the screen."""
    return Column(name, no_wrap=True, min_width=36)


def _told(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:g} min"


def _in(seconds: float) -> str:
    return f"in {seconds:.1f} s" if seconds >= 0 else f"overdue by {-seconds:.1f} s"
