"""Figures that scenarios measure, kept for the report of `make faults`; without one they are only printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

VARIABLE = "SKETCHY_FAULT_FIGURES"
"""The file, one JSON object a line, that figures are appended to."""


class Figures:
    """Where measured numbers go; `bound` is what we want or allow."""

    def __init__(self) -> None:
        path = os.environ.get(VARIABLE)
        self._file = Path(path) if path else None

    def note(
        self,
        scenario: str,
        name: str,
        value: float,
        bound: float | None = None,
        *,
        unit: str = "",
        at_least: bool = False,
    ) -> None:
        """One number; `at_least`: the bound is a lower one."""
        line = {
            "scenario": scenario,
            "name": name,
            "value": round(value, 3),
            "bound": bound,
            "unit": unit,
            "at_least": at_least,
        }
        sys.stdout.write(f"{scenario}: {name} {value:g}{unit}" + (f" ({bound:g})\n" if bound else "\n"))
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
