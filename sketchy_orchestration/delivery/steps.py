"""Steps of a procedure: what was done, when since its beginning, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `at_ms` when it ended, counted from the command, `took_ms` for how long it went on."""

    name: str
    found: str
    at_ms: float
    took_ms: float
    ok: bool = True

    def as_dict(self) -> dict[str, object]:
        return {
            "step": self.name,
            "found": self.found,
            "at_ms": self.at_ms,
            "took_ms": self.took_ms,
            "ok": self.ok,
        }


@dataclass(slots=True)
class Steps:
    """The steps of one run of a procedure; each is told to `tell` when it has ended."""

    tell: Callable[[Step], None] = lambda _: None
    done: list[Step] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)

    def did(self, name: str, found: str, *, ok: bool = True) -> Step:
        """A step has ended now."""
        now = time.monotonic()
        step = Step(
            name, found, round((now - self._began) * 1000, 1), round((now - self._last) * 1000, 1), ok
        )
        self._last = now
        self.done.append(step)
        self.tell(step)
        return step

    @property
    def ok(self) -> bool:
        return all(step.ok for step in self.done)

    def markdown(self, title: str) -> str:
        """As a table."""
        lines = [f"**{title}**", "", "| step | after ms | took ms | what came of it |", "|---|---:|---:|---|"]
        lines += [
            f"| {step.name} | {step.at_ms:,.0f} | {step.took_ms:,.0f} |"
            f" {'' if step.ok else '**failed**: '}{step.found.replace('|', '/')} |"
            for step in self.done
        ]
        return "\n".join(lines) + "\n"
