"""How much of the suite is run: a selection with the other tests, all of it by `make faults`."""

from __future__ import annotations

import os

import pytest

ROUNDS = int(os.environ.get("SKETCHY_FAULT_ROUNDS", "1"))
"""How often each thing is killed, and how many seeds each crash point gets."""

WHOLE = ROUNDS > 1

whole_only = pytest.mark.skipif(not WHOLE, reason="not in the selection; make faults runs it")
