"""sketchy watchdog: the watch without Dagster."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime

import typer

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.monitoring import logs
from sketchy_orchestration.monitoring.channels import Channels
from sketchy_orchestration.monitoring.watch import Look
from sketchy_orchestration.monitoring.watchdog import LOOK_EVERY
from sketchy_orchestration.monitoring.watchdog import watch as keep_watching
from sketchy_orchestration.settings import Settings


def watchdog(
    every: float = typer.Option(LOOK_EVERY, min=0.2, max=300, help="Seconds between two looks."),
    looks: int = typer.Option(0, min=0, help="End after so many looks; 0 goes on until interrupted."),
    without_dagster: bool = typer.Option(
        False, "--without-dagster", help="Dagster is not used here: its silence is no fault."
    ),
) -> None:
    """Fly canaries, roll up, alert, and ping DEAD_MAN_URL while all is well; needs no Dagster.

    It prints a line when what it sees changes, and nothing else.

    Example: ALERT_SLACK_URL=slack://... DEAD_MAN_URL=https://... sketchy watchdog
    """
    chosen = joined_settings()
    logs.configure(chosen)
    channels = ", ".join(Channels.of(chosen).configured) or "nobody: no ALERT_..._URL is set"
    switch = "is told while all is well" if chosen.dead_man_url else "is not set (DEAD_MAN_URL)"
    typer.echo(
        f"watching every {every:g} s; alerts go to {channels}; the dead man's switch {switch}; Ctrl-C ends it"
    )
    asyncio.run(_watch(chosen, every, looks, without_dagster))


async def _watch(settings: Settings, every: float, looks: int, without_dagster: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    seen = 0
    shown: set[str] | None = None

    def tell(look: Look) -> None:
        nonlocal seen, shown
        seen += 1
        unwell = {check.name: check.said for check in look.checks if not check.healthy}
        if unwell.keys() != shown:
            said = "; ".join(f"{name}: {what}" for name, what in unwell.items()) or "all is well"
            typer.echo(f"{datetime.now(UTC):%H:%M:%S}  {said}")
        shown = set(unwell)
        if looks and seen >= looks:
            stop.set()

    await keep_watching(settings, stop, every=every, without_dagster=without_dagster, tell=tell)
