"""What continuous integration runs: it must not go on when something is broken."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / ".ci" / "run"
ONCE_MORE = "test JOBS=0 TESTS=--last-failed --last-failed-no-failures none"


@pytest.mark.parametrize(
    ("fails", "asked"),
    [
        (["lint"], ["lint"]),
        (["test", ONCE_MORE], ["lint", "test", ONCE_MORE]),
        (["test", "coverage"], ["lint", "test", ONCE_MORE, "coverage"]),
        (["test-long", ONCE_MORE], ["lint", "test", "test-long", ONCE_MORE]),
    ],
)
def test_what_fails_twice_ends_the_run(fails: list[str], asked: list[str], tmp_path: Path) -> None:
    """With a `make` that only notes what it is asked for, and fails at some of it."""
    (tmp_path / "fails").write_text("\n".join(fails))
    make = tmp_path / "make"
    make.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\nif grep -qxF -- "$*" {tmp_path}/fails; then exit 2; fi\n'
    )
    make.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([RUN], env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode != 0
    assert (tmp_path / "asked").read_text().splitlines() == asked
