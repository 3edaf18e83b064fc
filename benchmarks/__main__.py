"""Runs the benchmarks one after the other, each in a process of its own; each prints a Markdown table.

Run: python -m benchmarks [--full] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time

QUICK: dict[str, list[str]] = {
    "timers": [],
    "fanout": ["--events", "5000", "--seconds", "5", "--pinned", "20"],
    "triggers": ["--quick"],
    "gateway": ["--seconds", "5"],
    "publisher": [],
    "standin": ["--quick"],
    "emergency": ["--turns", "1"],
    "side_by_side": [],
}
"""The modules by name, with what makes each of them quick."""

FULL: dict[str, list[str]] = {"timers": ["--full"], "side_by_side": ["--full"]}
"""What makes them full, where that is not what they do by themselves."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--full", action="store_true", help="as long as the stated figures ask; else quick")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of: {', '.join(QUICK)}; all when none"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(QUICK)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(QUICK)}")
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    failed = []
    for name in options.names or QUICK:
        print(f"\n## {name}\n", flush=True)
        began = time.monotonic()
        arguments = FULL.get(name, []) if options.full else QUICK[name]
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=False).returncode:
            failed.append(name)
        print(f"\n({time.monotonic() - began:.0f} s)", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
