"""Breaks everything on purpose, in turn, and writes what came of it to reports/faults.md.

Usage: python -m tests.faults [--rounds 20] [--outage 600] [--wrong-key 60] [--only WORD ...] [--report-only]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.faults import figures
from tests.faults.report import written

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "reports" / "faults"
REPORT = ROOT / "reports" / "faults.md"

MODULES = (
    "tests/faults/test_workers.py",
    "tests/faults/test_network.py",
    "tests/faults/test_two_hosts.py",
    "tests/faults/test_database.py",
    "tests/faults/test_pubnub.py",
    "tests/faults/test_crash_points.py",
    "tests/faults/test_defects_of_the_clock.py",
    "tests/faults/test_defects_of_the_voice.py",
    "tests/faults/timer",
    "tests/integration/timer_shift/test_one_clock.py",
    "tests/e2e/test_dagster.py",
)


def run(module: str, environment: dict[str, str], rounds: int) -> bool:
    """One module in a process of its own, its figures and results beside those of others."""
    name = Path(module).stem
    kept = FOLDER / f"{name}.jsonl"
    # Nothing of an earlier run may speak for this one, however it ends.
    for old in FOLDER.glob(f"{name}.*"):
        old.unlink()
    head = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}, {rounds} rounds"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", module, f"--junit-xml={FOLDER / name}.xml"],
        env={**environment, figures.VARIABLE: str(kept)},
        cwd=ROOT,
        check=False,
    )
    run_of_it = {"head": head, "seconds": time.monotonic() - began, "ended": done.returncode}
    (FOLDER / f"{name}.json").write_text(json.dumps(run_of_it), encoding="utf-8")
    sys.stdout.write(f"{module}: {time.monotonic() - began:.0f} s\n")
    return done.returncode == 0


def machine() -> str:
    """What the figures were measured on, and how busy it was."""
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}, load {os.getloadavg()[1]:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=20, help="kills of each kind, and seeds of each point")
    parser.add_argument("--outage", type=float, default=600, help="seconds of the long outage of PubNub")
    parser.add_argument("--wrong-key", type=float, default=60, help="seconds of a wrong key")
    parser.add_argument(
        "--only", nargs="*", default=[], help="only modules with one of these words in their name"
    )
    parser.add_argument("--report-only", action="store_true", help="write the report of what was kept")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in MODULES if not given.only or any(word in name for word in given.only)]
    environment = {
        **os.environ,
        "SKETCHY_FAULT_ROUNDS": str(max(2, given.rounds)),
        "SKETCHY_FAULT_OUTAGE": str(given.outage),
        "SKETCHY_FAULT_WRONG_KEY": str(given.wrong_key),
    }
    rounds = max(2, given.rounds)
    came = [] if given.report_only else [run(module, environment, rounds) for module in chosen]
    REPORT.write_text(written(FOLDER), encoding="utf-8")
    sys.stdout.write(f"{REPORT.relative_to(ROOT)} says what came of it\n")
    return 0 if all(came) else 1


if __name__ == "__main__":
    sys.exit(main())
