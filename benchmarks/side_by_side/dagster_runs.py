"""A Dagster run per sweep: a run of timer_sweep, then one of event_fanout, each a process, again and again.

Without daemon and queue, which would add seconds to each: what is measured is the least a run costs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile


def main() -> None:
    """Until the process is ended."""
    with tempfile.TemporaryDirectory(prefix="sketchy-bench-") as home:
        env = {**os.environ, "DAGSTER_HOME": home, "DAGSTER_DISABLE_TELEMETRY": "1"}
        print("ready", flush=True)
        while True:
            for job in ("timer_sweep", "event_fanout"):
                command = (sys.executable, "-m", "dagster", "job", "execute")
                wanted = ("-m", "sketchy_orchestration.definitions", "-j", job)
                subprocess.run((*command, *wanted), env=env, check=False, capture_output=True)


if __name__ == "__main__":
    main()
