"""The report: each scenario's figures, as ratios to floor and best peer too, and where a peer does better."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.side_by_side.figures import FIGURES, OWN, Figure, best_peer, better, ratio
from benchmarks.side_by_side.referee import Turn, at

_SHARES = (0.5, 0.95, 0.99, 1.0)
_COLUMNS = (
    "contestant",
    "ended / due",
    "lost",
    "early",
    "doubled",
    "lateness p50 / p95 / p99 / max, ms",
    "heard p50 / p95 / p99 / max, ms",
    "events/s",
    "CPU s per 1,000",
    "memory MB",
    "connections",
    "restarted",
)
_HOW_TO_READ = """\
Lateness: from the deadline until the end is committed, as an observer in the database sees it. Heard: from
the deadline until a subscriber hears `phase_changed`; of chatter, from its commit (whose events cannot be
written at the rate has twice the time for it; what was written by then is due). Ended: the phase is over in
the database when the turn is; lost: of those listened to, not heard by then. Events a second: from the
first deadline to the last end. CPU: of the workers and of Postgres, from the first deadline on; memory and
connections: the most that the workers had. A worker that exits, or is killed, is started again after 0.1 s,
as systemd would.

The second table of each scenario has the same figures as ratios, *÷ floor / ÷ best peer*. The best peer is
the best in that one figure among the peers, tuned or not, that met as many games and missed and lost no
more than we did. Where something was missed or lost there are no ratios: the rest of a half may well be
quick. A peer better than we are makes our second ratio more than 1 (of events a second: less)."""


def machine() -> str:
    """What it was measured on, with how busy it was at the start."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def markdown(turns: Sequence[Turn], failures: Sequence[str], heading: str, pictures: Sequence[str]) -> str:
    """The whole report."""
    parts = ["# Side by side", "", heading, "", _HOW_TO_READ, ""]
    for picture in pictures:
        parts += [f"![{picture.removesuffix('.svg')}]({picture})", ""]
    for scenario in dict.fromkeys(turn.scenario for turn in turns):
        met = [turn for turn in turns if turn.scenario == scenario]
        parts += [f"## {scenario}", "", *_table(met), "", *_ratios(met), ""]
    parts += ["## Where a peer does better than we do", "", *_better(turns), ""]
    if failures:
        parts += ["## What could not be measured", "", *(f"- {failure}" for failure in failures), ""]
    return "\n".join(parts)


def _table(turns: Sequence[Turn]) -> list[str]:
    lines = _head(_COLUMNS)
    for turn in turns:
        cells = (
            _name(turn),
            f"{turn.due - turn.missed} / {turn.due}",
            f"{turn.lost} of {turn.listened}",
            str(turn.early),
            str(turn.doubled),
            _spread(turn.lateness_ms),
            _spread(turn.latency_ms),
            f"{turn.throughput:,.1f}",
            f"{turn.cpu:.2f}",
            f"{turn.memory_mb:.0f}",
            str(turn.connections),
            str(turn.restarted),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _ratios(turns: Sequence[Turn]) -> list[str]:
    floor = next((turn for turn in turns if turn.contestant == "floor"), None)
    ours = next((turn for turn in turns if turn.contestant == "ours"), None)
    shown = [figure for figure in FIGURES if any(not math.isnan(figure.of(turn)) for turn in turns)]
    lines = _head(("÷ floor / ÷ best peer", *(figure.name for figure in shown)))
    for turn in turns:
        cells = [_name(turn)]
        for figure in shown:
            peer = best_peer(figure, turns, ours or turn)
            cells.append(f"{_told(ratio(figure, turn, floor))} / {_told(ratio(figure, turn, peer))}")
        lines.append("| " + " | ".join(cells) + " |")
    bests = [(figure, best_peer(figure, turns, ours)) for figure in shown] if ours else []
    named = "; ".join(f"{figure.name}: {_who(peer)}" for figure, peer in bests if peer is not None)
    return [*lines, "", f"Best peers: {named}." if named else "No peer missed and lost as little as we did."]


def _head(columns: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]


def _name(turn: Turn) -> str:
    return f"**{turn.contestant}**, {turn.settings}"


def _who(turn: Turn) -> str:
    return turn.contestant if turn.settings != "defaults" else f"{turn.contestant} (defaults)"


def _told(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _spread(values: Sequence[float]) -> str:
    return " / ".join(f"{at(values, share):,.1f}" for share in _SHARES) if values else "–"


def _better(turns: Sequence[Turn]) -> list[str]:
    lines = []
    for ours in turns:
        if ours.contestant != "ours":
            continue
        for peer in turns:
            if peer.scenario != ours.scenario or peer.contestant in OWN:
                continue
            wins = [_win(figure, peer, ours) for figure in better(peer, ours)]
            if wins:
                lines.append(f"- {ours.scenario}: {peer.contestant} ({peer.settings}): {'; '.join(wins)}.")
    return lines or ["Nowhere in this run."]


def _win(figure: Figure, peer: Turn, ours: Turn) -> str:
    theirs, mine = (f"{figure.of(turn):,.{figure.digits}f}" for turn in (peer, ours))
    return f"{figure.name} {theirs} against {mine}{figure.unit}"


def draw(turns: Sequence[Turn], folder: Path, stem: str) -> list[str]:
    """A picture a scenario: which share of the games had been heard so long after the deadline.

    Returns:
        The names of the files; none where matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "sketchy"
    from matplotlib import pyplot

    drawn = []
    for number, scenario in enumerate(dict.fromkeys(turn.scenario for turn in turns), 1):
        figure, axes = pyplot.subplots(figsize=(8, 4.2))
        for turn in turns:
            if turn.scenario == scenario and turn.latency_ms:
                steps = [at(turn.latency_ms, share / 100) for share in range(101)]
                heard = len(turn.latency_ms) / max(1, turn.listened)
                axes.plot(
                    [max(0.3, value) for value in steps],
                    [share * heard for share in range(101)],
                    label=f"{turn.contestant}, {turn.settings}",
                    linewidth=2.2 if turn.contestant in OWN else 1.1,
                )
        axes.set(xscale="log", xlabel="ms after the deadline (or commit)", ylabel="heard, %", title=scenario)
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(fontsize=7, loc="lower right")
        name = f"{stem}-{number}.svg"
        figure.savefig(folder / name, bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)
        drawn.append(name)
    return drawn


def write(turns: Sequence[Turn], failures: Sequence[str], heading: str, folder: Path, stem: str) -> Path:
    """Markdown, JSON and pictures; the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"machine": heading, "turns": [turn.json() for turn in turns], "failures": list(failures)}
    (folder / f"{stem}.json").write_text(json.dumps(told, separators=(",", ":")) + "\n")
    path = folder / f"{stem}.md"
    # First without: drawing takes a while, and whoever ends the run may not wait for it.
    path.write_text(markdown(turns, failures, heading, []))
    path.write_text(markdown(turns, failures, heading, draw(turns, folder, stem)))
    return path
