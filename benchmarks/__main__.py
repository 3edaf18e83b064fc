"""Runs the benchmarks of single parts, each in a process of its own; each prints a Markdown table.

Ourselves beside others is none of them: python -m benchmarks.side_by_side.

Run: python -m benchmarks [--full] [--out FOLDER] [NAME ...]
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.side_by_side.report import machine

QUICK: dict[str, list[str]] = {
    "timers": [],
    "fanout": ["--events", "5000", "--seconds", "5", "--pinned", "20"],
    "triggers": ["--quick"],
    "gateway": ["--seconds", "5"],
    "publisher": [],
    "standin": ["--quick"],
    "emergency": ["--turns", "1"],
    "stack": ["--seconds", "20"],
}
"""The modules by name, with what makes each of them quick."""

FULL: dict[str, list[str]] = {"timers": ["--full"]}
"""What makes them full, where that is not what they do by themselves."""


@dataclass
class Section:
    """What one benchmark printed."""

    name: str
    arguments: list[str]
    seconds: float = 0.0
    failed: bool = False
    lines: list[str] = field(default_factory=list)

    def rows(self) -> list[dict[str, str]]:
        """Its tables, a dictionary a row by the columns' names."""
        found, columns = [], list[str]()
        for line in self.lines:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not line.startswith("|"):
                columns = []
            elif not columns:
                columns = cells
            elif set("".join(cells)) - {"-", ":"}:
                found.append(dict(zip(columns, cells, strict=False)))
        return found


def run(name: str, arguments: list[str]) -> Section:
    """Run one, showing what it prints while it prints it."""
    section, began = Section(name, arguments), time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            section.lines.append(line.rstrip())
    section.failed, section.seconds = process.returncode != 0, time.monotonic() - began
    return section


def write(sections: list[Section], heading: str, folder: Path) -> Path:
    """One report of them all, and its JSON; the path of the report."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.date.today():%Y-%m-%d}.md"
    parts = ["# Benchmarks", "", heading, ""]
    for each in sections:
        told = [line for line in each.lines if not line.startswith("#")]
        command = " ".join(("python -m", f"benchmarks.{each.name}", *each.arguments))
        parts += [f"## {each.name}", "", *told, "", f"`{command}`, {each.seconds:.0f} s", ""]
    path.write_text("\n".join(parts), encoding="utf-8")
    kept = [
        {"name": each.name, "arguments": each.arguments, "seconds": each.seconds, "rows": each.rows()}
        for each in sections
    ]
    path.with_suffix(".json").write_text(json.dumps({"machine": heading, "benchmarks": kept}, indent=1))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--full", action="store_true", help="as long as the stated figures ask; else quick")
    parser.add_argument("--out", type=Path, help="also write a report and its JSON into this folder")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of: {', '.join(QUICK)}; all when none"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(QUICK)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(QUICK)}")
    heading = machine()
    print(heading)
    sections = []
    for name in options.names or QUICK:
        print(f"\n## {name}\n", flush=True)
        arguments = FULL.get(name, []) if options.full else QUICK[name]
        section = run(name, arguments)
        sections.append(section)
        print(f"\n({section.seconds:.0f} s)", flush=True)
        if section.failed:
            print(f"failed: {name}", file=sys.stderr)
    if options.out:
        print(f"written to {write(sections, heading, options.out)}")
    return 1 if any(section.failed for section in sections) else 0


if __name__ == "__main__":
    sys.exit(main())
