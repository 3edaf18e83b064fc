"""The report: a table a scenario, with ratios to the floor and the best peer; where a peer does better."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.side_by_side.referee import Turn, at

_SHARES = (0.5, 0.95, 0.99, 1.0)
_OWN = ("floor", "ours")
_COLUMNS = (
    "contestant",
    "ended / due",
    "lost",
    "early",
    "doubled",
    "lateness p50 / p95 / p99 / max, ms",
    "heard p50 / p95 / p99 / max, ms",
    "heard p50, p99 ÷ floor",
    "÷ best peer",
    "CPU s per 1,000",
    "memory MB",
    "connections",
)


def machine() -> str:
    """What it was measured on, with how busy it was at the start."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def markdown(turns: Sequence[Turn], heading: str, pictures: Sequence[str]) -> str:
    """The whole report."""
    parts = ["# Side by side", "", heading, ""]
    for picture in pictures:
        parts += [f"![{picture.removesuffix('.svg')}]({picture})", ""]
    for scenario in dict.fromkeys(turn.scenario for turn in turns):
        parts += [f"## {scenario}", "", *_table([turn for turn in turns if turn.scenario == scenario]), ""]
    parts += ["## Where a peer does better than we do", "", *_better(turns), ""]
    return "\n".join(parts)


def _table(turns: Sequence[Turn]) -> list[str]:
    floor = next((turn for turn in turns if turn.contestant == "floor"), None)
    peers = [turn for turn in turns if turn.contestant not in _OWN and turn.latency_ms]
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    for turn in turns:
        best = [
            min((at(peer.latency_ms, share) for peer in peers), default=math.nan) for share in (0.5, 0.99)
        ]
        cells = (
            f"**{turn.contestant}**, {turn.settings}",
            f"{turn.due - turn.missed} / {turn.due}",
            f"{turn.lost} of {turn.listened}",
            str(turn.early),
            str(turn.doubled),
            _spread(turn.lateness_ms),
            _spread(turn.latency_ms),
            _ratios(turn, [at(floor.latency_ms, share) for share in (0.5, 0.99)] if floor else None),
            _ratios(turn, best) if peers else "–",
            f"{turn.cpu:.2f}" if turn.cpu else "–",
            f"{turn.memory_mb:.0f}" if turn.memory_mb else "–",
            str(turn.connections or "–"),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _spread(values: Sequence[float]) -> str:
    return " / ".join(f"{at(values, share):,.1f}" for share in _SHARES) if values else "–"


def _ratios(turn: Turn, others: Sequence[float] | None) -> str:
    if others is None or not turn.latency_ms:
        return "–"
    mine = [at(turn.latency_ms, share) for share in (0.5, 0.99)]
    return ", ".join(
        f"{value / other:.2f}" if other else "–" for value, other in zip(mine, others, strict=True)
    )


def _better(turns: Sequence[Turn]) -> list[str]:
    lines = []
    for scenario in dict.fromkeys(turn.scenario for turn in turns):
        ours = next((t for t in turns if t.scenario == scenario and t.contestant == "ours"), None)
        if ours is None:
            continue
        for peer in turns:
            if peer.scenario != scenario or peer.contestant in _OWN:
                continue
            wins = [
                f"{name} {theirs:,.1f} against {mine:,.1f}"
                for name, theirs, mine in _comparisons(peer, ours)
                if theirs < mine
            ]
            if wins:
                lines.append(f"- {scenario}: {peer.contestant} ({peer.settings}): {'; '.join(wins)}.")
    return lines or ["Nowhere in this run."]


def _comparisons(peer: Turn, ours: Turn) -> list[tuple[str, float, float]]:
    found = [
        (f"{what} {name} ms", at(theirs, share), at(mine, share))
        for what, theirs, mine in (
            ("lateness", peer.lateness_ms, ours.lateness_ms),
            ("heard", peer.latency_ms, ours.latency_ms),
        )
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        # Of one that lost half of its games the rest may well be quick.
        if theirs and mine and peer.missed <= ours.missed and peer.lost <= ours.lost
    ]
    found += [
        ("missed", float(peer.missed), float(ours.missed)),
        ("lost", float(peer.lost), float(ours.lost)),
    ]
    for name in ("cpu", "memory_mb", "connections"):
        theirs, mine = float(getattr(peer, name)), float(getattr(ours, name))
        if theirs and mine:
            found.append((name.replace("_", " "), theirs, mine))
    return found


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
                    linewidth=2.2 if turn.contestant in _OWN else 1.1,
                )
        axes.set(xscale="log", xlabel="ms after the deadline (or commit)", ylabel="heard, %", title=scenario)
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(fontsize=7, loc="lower right")
        name = f"{stem}-{number}.svg"
        figure.savefig(folder / name, bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)
        drawn.append(name)
    return drawn


def write(turns: Sequence[Turn], heading: str, folder: Path, stem: str) -> Path:
    """Markdown, JSON and pictures; the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"machine": heading, "turns": [turn.json() for turn in turns]}
    (folder / f"{stem}.json").write_text(json.dumps(told, separators=(",", ":")) + "\n")
    path = folder / f"{stem}.md"
    path.write_text(markdown(turns, heading, draw(turns, folder, stem)))
    return path
