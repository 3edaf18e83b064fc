"""sketchy shift: the loop of a timer or fan-out shift, without Dagster."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.monitoring import logs
from sketchy_orchestration.realtime.shift import (
    RunningShift,
    ShiftKind,
    ShiftReport,
    new_identity,
    start_shift,
)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LEAVE_SECONDS = 5.0

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run a timer or fan-out shift without Dagster.",
)


class ShiftFailedError(SketchyError):
    """The shift ended because of an error it could not repair."""


@app.command()
def timer() -> None:
    """Sweep at every deadline, until relieved or Ctrl-C.

    It counts among the two shifts that Dagster's supervision keeps at work: it bridges an outage of Dagster,
    and may run beside it.

    \b
    Example:
      sketchy shift timer
    """
    _work(ShiftKind.timer)


@app.command()
def fanout() -> None:
    """Sequence and publish events, until relieved or Ctrl-C.

    It shares the lanes with the other fan-out shifts at work, whoever runs them.

    \b
    Example:
      sketchy shift fanout
    """
    _work(ShiftKind.fanout)


def _work(kind: ShiftKind) -> None:
    chosen = joined_settings()
    logs.configure(chosen)
    running = start_shift(new_identity(kind), chosen)
    identity = running.identity
    typer.echo(f"{kind} shift {identity.shift_id} is at work (process {identity.pid}); Ctrl-C ends it")
    with _leaving_on_signals(running):
        for report in running.reports():
            typer.echo(_line(report))
        running.join(_LEAVE_SECONDS)
    if running.error is not None:
        raise ShiftFailedError(f"the {kind} shift failed: {running.error}") from running.error
    typer.echo(f"{kind} shift left: {running.end_reason}")


@contextmanager
def _leaving_on_signals(running: RunningShift) -> Iterator[None]:
    """The first signal asks the shift to leave, the second does not wait for it."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.default_int_handler)
        running.stop()

    before = {number: signal.signal(number, leave) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line(report: ShiftReport) -> str:
    minutes = (report.until - report.since).total_seconds() / 60
    told = ", ".join(f"{name} {value:g}" for name, value in report.numbers.items())
    return f"{report.until:%H:%M:%S}  last {minutes:.1f} min: {told}"
