"""One screen about the running system, for `sketchy up` and `sketchy status`."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sketchy_orchestration.database.status import Status
from sketchy_orchestration.local.stack_state import PartState

# What is late enough to be seen in colour, milliseconds and seconds.
_LATE_MS = 100.0
_STALE_SECONDS = 5.0
# A share of the time; below it bursts are evened out, which is what the limit is for.
_HELD_BACK = 0.5


def screen(
    status: Status | None,
    parts: Sequence[PartState],
    *,
    title: str,
    gateway: str | None = None,
    dagster_ui: str | None = None,
    dagster_starts: bool = False,
    notices: Sequence[str] = (),
    problem: str | None = None,
) -> RenderableType:
    """Everything on one screen; without a status yet, only what is known."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column()
    if status is not None:
        _add_status(rows, status)
    if parts:
        rows.add_row("parts", _parts(parts))
    if gateway:
        rows.add_row("gateway", Text(f"{gateway}/functions/v1", style="cyan underline"))
    if dagster_ui:
        rows.add_row("Dagster UI", Text(dagster_ui, style="cyan underline"))
    elif dagster_starts:
        rows.add_row("Dagster UI", Text("starting ...", style="dim"))
    below: list[RenderableType] = [Text(line, style="dim") for line in notices]
    if problem:
        below.append(Text(problem, style="bold red"))
    return Panel(Group(rows, *below), title=title, title_align="left", box=box.ROUNDED, expand=False)


def _add_status(rows: Table, status: Status) -> None:
    games = Text()
    for phase, count in status.games.items():
        games.append(f"{phase} ", style="dim")
        games.append(f"{count}   ", style="bold" if count else "dim")
    rows.add_row("games", games)
    late = Text(f"p50 {_ms(status.lateness.p50_ms)}   p99 {_ms(status.lateness.p99_ms)}   max ")
    worst = status.lateness.max_ms
    late.append(_ms(worst), style="red" if worst is not None and worst > _LATE_MS else "green")
    late.append(f"   {status.transitions} transitions in {status.window_seconds:.0f} s", style="dim")
    rows.add_row("lateness", late)
    if status.overdue or status.set_aside or status.trigger_failures:
        rows.add_row(
            "attention",
            Text(
                f"{status.overdue} overdue (oldest {status.oldest_overdue_seconds:.1f} s)"
                f"   {status.set_aside} set aside   {status.trigger_failures} trigger failures",
                style="yellow",
            ),
        )
    waits = status.oldest_waiting_seconds > _STALE_SECONDS
    events = Text(f"{status.waiting_events} waiting", style="red" if waits else "")
    if status.waiting_events:
        events.append(f" (oldest {status.oldest_waiting_seconds:.1f} s)")
    events.append(
        f"   {status.sent_events} sent in {status.window_seconds:.0f} s"
        f" ({status.sent_events / status.window_seconds:.1f}/s)",
        style="default",
    )
    if status.held_back > _HELD_BACK:
        events.append("   held back by the rate limit", style="yellow")
    events.append(f"   {status.dead_letters} dead letters", style="red" if status.dead_letters else "dim")
    rows.add_row("events", events)
    rows.add_row("shifts", _shifts(status))
    circuit = Text(status.circuit, style="green" if status.circuit == "closed" else "red")
    if status.circuit != "closed":
        circuit.append(f" ({status.circuit_reason or 'unknown'}) for {status.circuit_seconds:.0f} s")
    circuit.append(f"   enrolment {status.enrolment:g} %", style="default")
    if status.flags_off:
        circuit.append(f"   switched off: {', '.join(status.flags_off)}", style="yellow")
    rows.add_row("circuit", circuit)


def _shifts(status: Status) -> Text:
    text = Text()
    for kind, name in (("timer", "timer"), ("fanout", "fan-out")):
        alive = status.alive(kind)
        text.append(f"{name} {alive}", style="green" if alive >= 2 else "yellow" if alive else "red")
        one = [f"{shift.pid}" for shift in status.shifts if shift.kind == kind and shift.alive]
        text.append(f" (pid {', '.join(one)})   " if one else "   ", style="dim")
    return text


def _parts(parts: Sequence[PartState]) -> RenderableType:
    """In columns, so that no line breaks between a mark and its name."""
    shown = []
    for part in parts:
        again = f" ×{part.restarts + 1}" if part.restarts else ""
        mark = ("●", "green" if part.alive else "red")
        shown.append(Text.assemble(mark, f" {part.name}{again}", no_wrap=True))
    return Columns(shown, padding=(0, 2))


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"


def one_line(status: Status) -> str:
    """The same in a line, for where there is no terminal."""
    games = " ".join(f"{phase}={count}" for phase, count in status.games.items() if count)
    return (
        f"games {games or 'none'};"
        f" lateness p50 {_ms(status.lateness.p50_ms)} max {_ms(status.lateness.max_ms)};"
        f" events waiting={status.waiting_events} sent={status.sent_events}/min dead={status.dead_letters};"
        f" shifts timer={status.alive('timer')} fanout={status.alive('fanout')}"
    )
