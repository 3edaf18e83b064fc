"""Crash points: off unless the environment arms one, ignored outside development, deadly where armed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from sketchy_orchestration import crash_points

REACH = """
from sketchy_orchestration import crash_points
for _ in range(3):
    crash_points.reach("relay.published")
    crash_points.reach("sweep.begin")
    print("on", flush=True)
"""


def reach(armed: str, **more: str) -> tuple[int, int, str]:
    """(exit code, times it went on, what it said) of a process with this crash point."""
    environment = {**os.environ, crash_points.VARIABLE: armed, **more}
    done = subprocess.run(
        [sys.executable, "-c", REACH], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.count("on\n"), done.stdout + done.stderr


def test_off_by_default() -> None:
    assert crash_points.VARIABLE not in os.environ
    for point in crash_points.POINTS:
        crash_points.reach(point)


@pytest.mark.parametrize(("armed", "went_on"), [("relay.published", 0), ("sweep.begin:3", 2)])
def test_armed_it_dies_where_and_when_it_was_told(armed: str, went_on: int) -> None:
    assert reach(armed)[:2] == (-signal.SIGKILL, went_on)


def test_no_accident_in_production() -> None:
    code, went_on, said = reach("relay.published", ENVIRONMENT="production")
    assert (code, went_on) == (0, 3)
    assert "ignored" in said


@pytest.mark.parametrize("wrong", ["nowhere", "sweep.begin:0", "sweep.begin:1:TERM", "sweep.begin:1:KILL:x"])
def test_what_cannot_be_understood_says_so(wrong: str) -> None:
    code, _, said = reach(wrong)
    assert code == 1
    assert crash_points.VARIABLE in said
