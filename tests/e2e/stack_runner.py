"""Runs `sketchy` as a person would: its own process, its own home folder, nothing inherited."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sketchy_orchestration.local import processes, stack_state

_OURS = re.compile(r"DATABASE_URL$|^PUBNUB_|^SKETCHY_|^DAGSTER_|^ENVIRONMENT$|^POSTGRES_VERSION$|^ENABLE_")
ROOT = Path(__file__).parents[2]


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without any setting of ours."""
    return {
        **{name: value for name, value in os.environ.items() if not _OURS.search(name)},
        "SKETCHY_HOME": str(home),
        **more,
    }


def sketchy(home: Path, *words: str, seconds: float = 90, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sketchy_orchestration.cli.main", *words],
        env=clean_environment(home) | more,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


@dataclass
class RunningStack:
    """A `sketchy up` in the background."""

    home: Path
    words: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> RunningStack:
        self.output = self.home.with_name(f"{self.home.name}.out")
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sketchy_orchestration.cli.main", "up", *self.words],
                env=clean_environment(self.home, **self.variables),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            processes.stop_after(self.process, 45)
        processes.end_marked(self.mark)

    @property
    def mark(self) -> str:
        return stack_state.mark_of(self.home)

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str, *, seconds: float) -> float:
        """Wait until a line with `text` was printed; the last number of seconds in that line."""

        def settled() -> bool:
            return text in self.said() or self.process.poll() is not None

        processes.wait_until(settled, seconds=seconds, pause=0.1)
        line = next((line for line in self.said().splitlines() if text in line), None)
        assert line is not None, f"{text!r} was not said within {seconds} s:\n{self.said()}\n{self.logs()}"
        return float(re.findall(r"([0-9.]+) s\b", line)[-1])

    def logs(self) -> str:
        """The end of each part's log, for a failure's message."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(encoding='utf-8', errors='replace')[-2000:]}"
            for path in sorted((self.home / "logs").glob("*.log"))
        )

    def status(self) -> dict[str, Any]:
        done = sketchy(self.home, "status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def environment(self) -> dict[str, str]:
        """What `sketchy env` says, as a shell reads it."""
        done = sketchy(self.home, "env")
        assert done.returncode == 0, done.stderr
        words = [shlex.split(line) for line in done.stdout.splitlines()]
        assert all(word[0] == "export" for word in words)
        return dict(word[1].split("=", 1) for word in words)
