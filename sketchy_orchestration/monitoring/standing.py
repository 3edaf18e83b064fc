"""Where the service levels stand, measured from the minutes of our own tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from psycopg import Connection

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.domain import burn
from sketchy_orchestration.domain.burn import Pace
from sketchy_orchestration.domain.service_levels import (
    LEVELS,
    ServiceLevel,
    Standing,
    Sums,
    overridden,
    standing,
    tally,
)
from sketchy_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class PlayersMeasures:
    """What players feel, of one handler's games; shares are 0 to 1, None without games.

    Attributes:
        abandoned: cancelled games by the phase they were in.
        drawings_lost: players in the game whose drawing was missing when drawing and grace were over.
    """

    started: int
    completed: int
    abandoned: dict[str, int]
    drawings_lost: int

    @property
    def completion(self) -> float | None:
        ended = self.completed + sum(n for phase, n in self.abandoned.items() if phase != "waiting")
        return self.completed / ended if ended else None


@dataclass(frozen=True, slots=True)
class Report:
    """All of it at one moment.

    Attributes:
        burning: pace by service level, only of those that burn.
        players: by handler: orchestration, and legacy as the control group.
        accounted: written, settled, lost track of.
        inputs: support tickets and satisfaction, where somebody reported them.
    """

    standings: tuple[Standing, ...]
    burning: dict[str, Pace]
    players: dict[str, PlayersMeasures]
    accounted: monitoring.Accounted
    inputs: tuple[monitoring.Input, ...] = ()


def levels_of(settings: Settings) -> tuple[ServiceLevel, ...]:
    """The service levels with the contracts of the setting SERVICE_LEVELS."""
    return overridden(settings.service_levels) if settings.service_levels else LEVELS


def standings(connection: Connection[Row], levels: Sequence[ServiceLevel] = LEVELS) -> tuple[Standing, ...]:
    """Every service level over its own window."""
    of_window: dict[int, Sums] = {}
    for days in {level.window_days for level in levels}:
        of_window[days] = monitoring.sums(connection, timedelta(days=days))
    return tuple(standing(level, of_window[level.window_days]) for level in levels)


def burning(connection: Connection[Row], levels: Sequence[ServiceLevel] = LEVELS) -> dict[str, Pace]:
    """The service levels whose budget burns too fast, and how."""
    of_window = {minutes: monitoring.sums(connection, timedelta(minutes=minutes)) for minutes in burn.WINDOWS}
    found = {}
    for level in levels:
        if not level.budget:
            continue
        tallies = {minutes: tally(level, level.contract, sums) for minutes, sums in of_window.items()}
        pace = burn.pace(tallies, level.contract.share)
        if pace is not None:
            found[level.name] = pace
    return found


def players_measures(sums: Sums) -> dict[str, PlayersMeasures]:
    """What players feel, by handler."""
    found = {}
    for handler in ("orchestration", "legacy"):
        abandoned = {
            label.partition(":")[2]: count
            for (metric, label), count in sums.counts.items()
            if metric == "games_abandoned" and label.partition(":")[0] == handler
        }
        found[handler] = PlayersMeasures(
            sums.count("games_started", handler),
            sums.count("games_completed", handler),
            abandoned,
            sums.count("drawings_lost", handler),
        )
    return found


def report(connection: Connection[Row], levels: Sequence[ServiceLevel] = LEVELS, days: int = 7) -> Report:
    """Everything, for people; players' measures over `days`."""
    return Report(
        standings(connection, levels),
        burning(connection, levels),
        players_measures(monitoring.sums(connection, timedelta(days=days))),
        monitoring.accounted(connection, timedelta(days=days)),
        tuple(monitoring.inputs(connection, timedelta(days=days))),
    )


def markdown(found: Report) -> str:
    """The report as Markdown tables."""
    lines = [
        "| service level | contract | measured | budget left | ambition | measured | p95 | p99 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found.standings:
        level = each.level
        lines.append(
            f"| {level.title} ({level.name}) | {_objective(level.contract.share, level.contract.within_ms)}"
            f" | {_share(each.contract.share)}{_mark(each.kept)} | {_share(each.budget_left)}"
            f" | {_objective(level.ambition.share, level.ambition.within_ms)}"
            f" | {_share(each.ambition.share)}{_mark(each.reached)}"
            f" | {_ms(each.p95_ms)} | {_ms(each.p99_ms)} |"
        )
    counted = found.accounted
    lines += [
        "",
        f"Events written {counted.written:,}, settled {counted.settled:,},"
        f" lost track of {counted.unaccounted:,}.",
        "Burning: " + (", ".join(f"{name} ({pace})" for name, pace in found.burning.items()) or "nothing."),
        "",
        "| games of | started | completed | completion | abandoned by phase | drawings lost |",
        "|---|---|---|---|---|---|",
    ]
    for handler, one in found.players.items():
        abandoned = ", ".join(f"{phase} {n}" for phase, n in sorted(one.abandoned.items())) or "none"
        lines.append(
            f"| {handler} | {one.started} | {one.completed} | {_share(one.completion)} | {abandoned}"
            f" | {one.drawings_lost} |"
        )
    told = [f"{each.name.replace('_', ' ')} ({each.label}) {each.value:g}" for each in found.inputs]
    lines += ["", "Reported: " + (", ".join(told) or "no support tickets, no satisfaction.")]
    return "\n".join(lines) + "\n"


def _objective(share: float, within_ms: float | None) -> str:
    return f"{share * 100:g} %" + (f" within {within_ms:g} ms" if within_ms else "")


def _share(share: float | None) -> str:
    return "no data" if share is None else f"{share * 100:.3f} %"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"


def _mark(kept: bool | None) -> str:
    return {None: "", True: " ✓", False: " ✗"}[kept]
