"""A load test: `sketchy play` in a process of its own, and what came of it as a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Environment, Settings


class LoadRefusedError(SketchyError):
    """Load is put on staging and development only."""


class LoadFailedError(SketchyError):
    """The players could not play at all."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of it; `broken` are the promises that were not kept, none when all were."""

    broken: list[str]
    summary: dict[str, Any]
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Every promise was."""
        return not self.broken

    def markdown(self) -> str:
        """As a table."""
        lines = [f"**load test**: {'; '.join(self.broken) or 'every promise was kept'}", ""]
        lines += ["| what | measured |", "|---|---|"]
        lines += [f"| {name} | {value:,.6g} |" for name, value in self.numbers.items()]
        return "\n".join(lines) + "\n"


def play(
    settings: Settings, *, games: int, rate: float, speed: float, seconds: float, ids: Sequence[str] = ()
) -> Loaded:
    """Play so many games, at most so many seconds.

    Args:
        ids: of the first games; the others get new ones.

    Raises:
        LoadRefusedError: this is production.
        LoadFailedError: the players did not end in time, or could not begin.
    """
    refuse_production(settings)
    words = ["play", "--json", "--games", str(games), "--rate", str(rate), "--speed", str(speed)]
    words += [f"--id={each}" for each in ids]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sketchy_orchestration.cli.main", *words],
            env={**os.environ, **_environment(settings)},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LoadFailedError(f"{games} games were not played within {seconds:g} s") from None
    try:
        summary: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise LoadFailedError(f"the players ended with code {done.returncode}: {last[0]}") from None
    broken = [] if done.returncode == 0 else [f"the players met a broken promise (code {done.returncode})"]
    return Loaded(broken, summary, dict(_numbers(summary)))


def refuse_production(settings: Settings) -> None:
    """Raises LoadRefusedError in production."""
    if settings.environment is Environment.production:
        raise LoadRefusedError("no load is put on production: run load_test in staging")


def _environment(settings: Settings) -> dict[str, str]:
    found = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            found[name.upper()] = value.get_secret_value()
        elif isinstance(value, str | int | float):
            found[name.upper()] = str(value)
    return found


def _numbers(summary: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in summary.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{name}_")
        elif isinstance(value, int | float):
            found.append((f"{prefix}{name}", float(value)))
    return found
