"""The report says of each module when it ran, and takes no silence for success."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.report import written

FIGURE = {
    "scenario": "kill -9 of a timer shift",
    "name": "worst lateness",
    "value": 41.0,
    "bound": 100,
    "unit": " ms",
    "at_least": False,
}
RESULTS = '<testsuite><testcase classname="tests.test_one" name="test_it" time="2"/></testsuite>'


def test_each_module_speaks_for_its_own_last_run(tmp_path: Path) -> None:
    for module, head, ended in (("one", "monday", 0), ("two", "tuesday", -9)):
        run = {"head": head, "seconds": 3.0, "ended": ended}
        (tmp_path / f"{module}.json").write_text(json.dumps(run))
        (tmp_path / f"{module}.jsonl").write_text(json.dumps(FIGURE) + "\n")
    (tmp_path / "one.xml").write_text(RESULTS)
    (tmp_path / "never finished.jsonl").write_text(json.dumps({**FIGURE, "value": 9999}) + "\n")
    report = written(tmp_path)
    assert "1 passed, 1 failed, 0 skipped" in report
    assert "- one: monday, 3 s" in report
    assert "- two: tuesday, 3 s" in report
    assert "| two | failed | 3.0 | pytest ended with -9 and left no results |" in report
    assert "worst lateness 41 ms, worst of 2" in report
    assert "9999" not in report
