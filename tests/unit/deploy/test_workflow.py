"""The workflow on GitHub runs what everybody runs, on every version that is promised."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
JOBS: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))[
    "jobs"
]


def test_it_runs_the_same_commands() -> None:
    made = [step["run"] for job in JOBS.values() for step in job["steps"] if "make " in step.get("run", "")]
    assert {command.partition(" TESTS=")[0] for command in made} == {
        "make lint",
        "make test",
        "make test-long",
    }
    for command in made:
        for folder in re.findall(r"tests/[\w/]+", command):
            assert (ROOT / folder).is_dir(), folder
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert JOBS["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert JOBS["postgres"]["strategy"]["matrix"]["postgres"] == ["15", "16", "17", "18"]
