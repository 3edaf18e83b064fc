"""An operator with a browser before `make up`: shifts run, and the launchpad works without typing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.stack_runner import RunningStack
from tests.integration.standin import javascript

PLAYWRIGHT = "playwright-core@1.64"
SCRIPT = Path(__file__).parent / "js" / "operator.mjs"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(700)]


def test_staging_validation_is_launched_from_the_launchpad(tmp_path: Path) -> None:
    node, chromium = javascript.node(), javascript.browser()
    packages = javascript.installed(PLAYWRIGHT)
    with RunningStack(tmp_path / "home", ("--games", "5")) as stack:
        stack.wait_for("Dagster: http", seconds=120)
        ui = stack.status()["stack"]["dagster_ui"]
        command = [node, str(SCRIPT), str(packages), chromium, ui, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        found = json.loads(done.stdout)
        assert "error" not in found, f"{found}\n{stack.logs()}"
        assert found["shifts"]["timer"] >= 2
        assert found["shifts"]["fanout"] >= 2
        assert found["status"] == "Success", f"{found}\n{stack.logs()}"
