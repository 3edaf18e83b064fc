"""The root of the errors a person can act on: what was wrong, what is allowed, what to do."""

from __future__ import annotations


class SketchyError(Exception):
    """An expected failure; the command line prints its message on one line and ends with exit code 1."""
