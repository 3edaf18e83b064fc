"""The report of the fault suite, from the figures and results that its modules left."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

# What ARCHITECTURE asks for: what it is called there, and what its figure is called here.
ASKED = (
    ("a shift of each kind killed with -9: worst lateness", "kill -9 of a", "worst lateness"),
    ("a fan-out shift killed with -9: lanes taken over", "kill -9 of a fanout", "lanes taken over after"),
    ("a fan-out shift paused: lanes taken over", "SIGSTOP of a fan-out", "lanes taken over after"),
    ("a fan-out shift cut off: lanes taken over", "partition of", "lanes taken over after"),
    ("the same, in a network namespace", "network namespace", "lanes taken over after"),
    ("a whole host cut off: lanes taken over", "two hosts", "lanes taken over after"),
    ("a relay cut off: its last attempt", "partition of", "last attempt of the relay cut off after"),
    (
        "Postgres restarted: throughput within 5 s",
        "Postgres restarted",
        "throughput in the fifth second after",
    ),
)


@dataclass(slots=True)
class Figure:
    """All values of one figure in one scenario."""

    values: list[float]
    bound: float | None
    unit: str
    at_least: bool

    @property
    def worst(self) -> float:
        return min(self.values) if self.at_least else max(self.values)

    @property
    def reached(self) -> bool | None:
        """None without a bound."""
        if self.bound is None:
            return None
        return self.worst >= self.bound if self.at_least else self.worst <= self.bound

    def said(self) -> str:
        times = f", worst of {len(self.values)}" if len(self.values) > 1 else ""
        return f"{self.worst:g}{self.unit}{times}"


Scenarios = dict[str, dict[str, Figure]]


def _read(files: Iterable[Path]) -> Scenarios:
    found: Scenarios = defaultdict(dict)
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            known = found[one["scenario"]]
            if one["name"] in known:
                known[one["name"]].values.append(one["value"])
            else:
                known[one["name"]] = Figure([one["value"]], one["bound"], one["unit"], one["at_least"])
    return found


@dataclass(frozen=True, slots=True)
class Result:
    """One test: `why` it failed or was skipped."""

    name: str
    state: str
    why: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """One module's last run: when, where, how many rounds; how its pytest ended."""

    module: str
    head: str
    seconds: float
    ended: int


def _runs(folder: Path) -> Iterator[Run]:
    for file in sorted(folder.glob("*.json")):
        yield Run(file.stem, **json.loads(file.read_text(encoding="utf-8")))


def _results(folder: Path, runs: list[Run]) -> Iterator[Result]:
    for run in runs:
        file = folder / f"{run.module}.xml"
        if not file.exists():
            why = f"pytest ended with {run.ended} and left no results"
            yield Result(run.module, "failed", why, run.seconds)
            continue
        for case in ElementTree.parse(file).iter("testcase"):  # noqa: S314  written by our own pytest
            name = f"{case.get('classname', '').rpartition('.')[2]}: {case.get('name', '')}"
            state, why = "passed", ""
            for kind, word in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
                if (found := case.find(kind)) is not None:
                    state, why = word, (found.get("message") or "").splitlines()[0][:300]
            yield Result(name, state, why, float(case.get("time", 0)))


def written(folder: Path) -> str:
    """The report in Markdown, of each module's last run."""
    runs = list(_runs(folder))
    figures = (folder / f"{run.module}.jsonl" for run in runs)
    scenarios = _read(file for file in figures if file.exists())
    results = list(_results(folder, runs))
    count = {state: sum(one.state == state for one in results) for state in ("passed", "failed", "skipped")}
    lines = [
        "# The fault suite",
        "",
        f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped.",
        "",
        *(f"- {run.module}: {run.head}, {run.seconds:.0f} s" for run in runs),
        "",
        *_asked(scenarios),
        "## Scenarios",
        "",
        "After each, the one checker looked through all that was written, numbered, sent and accepted.",
        "",
        "| scenario | transitions | delivered | sent twice | other figures |",
        "|---|---:|---:|---:|---|",
    ]
    for name, known in scenarios.items():
        cells = [_total(known, what) for what in ("transitions", "delivered", "sent twice")]
        others = [
            f"{what} {figure.said()}"
            for what, figure in known.items()
            if what not in ("transitions", "delivered", "sent twice")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {'; '.join(others)} |")
    lines += ["", "## Results", "", "| test | | seconds | |", "|---|---|---:|---|"]
    lines += [
        f"| {one.name} | {one.state} | {one.seconds:.1f} | {one.why.replace('|', '/')} |" for one in results
    ]
    return "\n".join(lines) + "\n"


def _total(known: dict[str, Figure], what: str) -> str:
    return f"{sum(known[what].values):g}" if what in known else ""


def _asked(scenarios: Scenarios) -> Iterator[str]:
    yield "| figure | measured | we want | |"
    yield "|---|---:|---:|---|"
    for title, scenario, name in ASKED:
        found = [
            known[name] for each, known in scenarios.items() if each.startswith(scenario) and name in known
        ]
        if not found:
            yield f"| {title} | | | not measured |"
            continue
        worst = (min if found[0].at_least else max)(found, key=lambda figure: figure.worst)
        sign = "≥" if worst.at_least else "≤"
        state = "reached" if worst.reached else "not reached"
        yield f"| {title} | {worst.said()} | {sign} {worst.bound:g}{worst.unit} | {state} |"
    yield ""
