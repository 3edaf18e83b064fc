"""What a run has to cover."""

from __future__ import annotations

from typing import Any

import pytest

from tests.check_coverage import by_package, problems


def a_file(lines: tuple[int, int], branches: tuple[int, int], *missing: int) -> dict[str, Any]:
    """As `coverage json` tells of one."""
    return {
        "summary": {
            **dict(zip(("covered_lines", "num_statements"), lines, strict=True)),
            **dict(zip(("covered_branches", "num_branches"), branches, strict=True)),
        },
        "missing_lines": list(missing),
        "missing_branches": [],
    }


GOOD = {
    "sketchy_orchestration/domain/timer.py": a_file((10, 10), (4, 4)),
    "sketchy_orchestration/cli/up.py": a_file((85, 90), (13, 14), 1, 2, 3, 4, 5),
    "sketchy_orchestration/settings.py": a_file((8, 10), (0, 0), 7, 9),
}


def test_enough_is_enough() -> None:
    assert problems(GOOD) == []
    sums = by_package(GOOD)
    assert list(sums) == ["cli", "domain", ".", "total"]
    assert (sums["total"].lines_run, sums["total"].lines) == (103, 110)


@pytest.mark.parametrize(
    ("name", "file", "what"),
    [
        ("cli/down.py", a_file((0, 10), (0, 0)), "total: 86.96 % of lines and branches"),
        ("cli/down.py", a_file((10, 10), (0, 9)), "total: 88.44 % of lines and branches"),
        ("domain/rate.py", a_file((99, 100), (0, 0), 12), "domain: 99.12 % of lines and branches"),
        ("domain/rate.py", a_file((99, 100), (0, 0), 12), "domain/rate.py: not covered: 12"),
        ("domain/rate.py", a_file((99, 99), (3, 4)), "domain: 99.15 % of lines and branches"),
    ],
)
def test_what_is_missing_is_named(name: str, file: dict[str, Any], what: str) -> None:
    found = problems({**GOOD, f"sketchy_orchestration/{name}": file})
    assert any(what in problem for problem in found), found
