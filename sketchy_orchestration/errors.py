"""The root of the errors a person can act on: what was wrong, what is allowed, what to do."""

from __future__ import annotations


class SketchyError(Exception):
    """An expected failure; the command line prints its message on one line and ends with exit code 1.

    Args:
        message: what was wrong and what is allowed, on one line.
        hint: what to do about it, where that is not already part of the message.
    """

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def in_one_line(self) -> str:
        """The message and the hint without line breaks."""
        text = f"{self} ({self.hint})" if self.hint else str(self)
        return " ".join(text.split())
