"""Holds what a whole run of the tests covered to what is promised, and writes its reports.

Usage: python -m tests.check_coverage
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
PACKAGE = "sketchy_orchestration"
TOTAL_PERCENT = 90.0
DOMAIN_PERCENT = 100.0


@dataclass
class Covered:
    """Lines and branches: how many there are, and how many of them were run."""

    lines: int = 0
    lines_run: int = 0
    branches: int = 0
    branches_run: int = 0

    def add(self, summary: dict[str, int]) -> None:
        """Count a file in."""
        self.lines += summary["num_statements"]
        self.lines_run += summary["covered_lines"]
        self.branches += summary["num_branches"]
        self.branches_run += summary["covered_branches"]

    @property
    def percent(self) -> tuple[float, float, float]:
        """Of lines, of branches, and of both together."""
        return (
            _percent(self.lines_run, self.lines),
            _percent(self.branches_run, self.branches),
            _percent(self.lines_run + self.branches_run, self.lines + self.branches),
        )


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 100.0


def by_package(files: dict[str, Any]) -> dict[str, Covered]:
    """Sums by the package's folders, its own modules under "."; the last is "total"."""
    found: defaultdict[str, Covered] = defaultdict(Covered)
    total = Covered()
    for name, file in sorted(files.items()):
        inner = Path(name).parts[Path(name).parts.index(PACKAGE) + 1 :]
        found[inner[0] if len(inner) > 1 else "."].add(file["summary"])
        total.add(file["summary"])
    return {**found, "total": total}


def problems(files: dict[str, Any]) -> list[str]:
    """Where less was covered than is promised, a line each."""
    sums = by_package(files)
    found = []
    for name, wanted in (("total", TOTAL_PERCENT), ("domain", DOMAIN_PERCENT)):
        percent = sums.get(name, Covered()).percent[-1]
        if percent < wanted:
            found.append(f"{name}: {percent:.2f} % of lines and branches covered, {wanted:g} % are promised")
    for name, file in sorted(files.items()):
        missing = [str(line) for line in file["missing_lines"]]
        missing += [f"{begin}->{end}" for begin, end in file["missing_branches"]]
        if missing and "/domain/" in name:
            found.append(f"{name}: not covered: {', '.join(missing)}")
    return found


def main() -> int:
    measured = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    REPORTS.mkdir(exist_ok=True)
    measured.xml_report(outfile=str(REPORTS / "coverage.xml"))
    measured.json_report(outfile=str(REPORTS / "coverage.json"))
    files = json.loads((REPORTS / "coverage.json").read_text(encoding="utf-8"))["files"]
    for name, covered in by_package(files).items():
        lines, branches, both = covered.percent
        sys.stdout.write(f"{name:12} {lines:6.2f} % of lines, {branches:6.2f} % of branches: {both:6.2f} %\n")
    found = problems(files)
    sys.stderr.write("".join(f"{problem}\n" for problem in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
