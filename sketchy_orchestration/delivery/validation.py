"""Validation: runs the steps of the checklists against a target and gives a verdict on one exact version."""

from __future__ import annotations

import time
import xml.etree.ElementTree as Xml
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import psycopg
import structlog

from sketchy_orchestration.database import validations
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.domain.validation import (
    CONTRACT_GATE,
    OUR_GATE,
    Outcome,
    Result,
    Suite,
    Verdict,
    judge,
)
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Environment, Settings
from sketchy_orchestration.version import Version, this_version

log = structlog.get_logger(__name__)


class ValidationRefusedError(SketchyError):
    """This target must not be validated like that."""


class StepFailedError(SketchyError):
    """A step found what must not be; the message is the finding."""


class CannotTryError(SketchyError):
    """A step could not be tried on this target, and so proves nothing."""


class Faults(Protocol):
    """Breaks PubNub on purpose: the stand-in's control, or a fault proxy with the same words."""

    def fault_on(self, settings: dict[str, Any]) -> int:
        """Switch a fault on; its number."""
        ...

    def fault_off(self, number: int | None = None) -> int:
        """Switch one, or all, off."""
        ...


@dataclass(slots=True)
class Scene:
    """What steps work with, and what they tell one another.

    Attributes:
        faults: None where PubNub cannot be broken.
        gateway: its base URL; None where there is none.
        numbers: measurements by name, milliseconds where the name ends in _ms.
        size: games of the larger load step.
        clean_up: what is done at the end, the last first.
    """

    settings: Settings
    faults: Faults | None = None
    gateway: str | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    size: int = 50
    clean_up: list[Callable[[], None]] = field(default_factory=list)
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Check:
    """A step: `line` is the checklist's; `do` returns what it found, or raises.

    Attributes:
        harmless: allowed in production without an override.
    """

    name: str
    suite: Suite
    line: str
    do: Callable[[Scene], str]
    harmless: bool = False


@dataclass(frozen=True, slots=True)
class Validated:
    """A validation that was made."""

    number: int
    version: Version
    verdict: Verdict
    results: list[Result]
    target: str
    numbers: dict[str, float]

    def markdown(self) -> str:
        """As a report."""
        passed = sum(result.outcome is Outcome.passed for result in self.results)
        verdict = "GO" if self.verdict.go else "NO GO"
        contract = "met" if self.verdict.within_contract else "not met"
        lines = [
            f"# Validation {self.number}: {verdict}",
            "",
            f"Version {self.version.label}, migrations {self.version.migrations}, target {self.target}.",
            f"{passed} of {len(self.results)} steps passed ({self.verdict.share:.1%}):"
            f" our gate is {OUR_GATE:.0%}; the contract's, {CONTRACT_GATE:.0%}, is {contract}.",
            f"Why: {self.verdict.why}.",
            "",
            "| step | suite | checklist | result | seconds | found |",
            "|---|---|---|---|---:|---|",
        ]
        lines += [
            f"| {r.name} | {r.suite} | {r.line} | {r.outcome} | {r.seconds:.1f} | {_cell(r.found)} |"
            for r in self.results
        ]
        if self.numbers:
            lines += ["", "| measured | |", "|---|---:|"]
            lines += [f"| {name} | {value:,.6g} |" for name, value in sorted(self.numbers.items())]
        return "\n".join(lines) + "\n"

    def junit(self) -> str:
        """As JUnit XML: one suite each."""
        root = Xml.Element("testsuites", name=f"sketchy validation {self.number}")
        for suite in Suite:
            cases = [result for result in self.results if result.suite is suite]
            if not cases:
                continue
            attributes = {
                "name": str(suite),
                "time": f"{sum(case.seconds for case in cases):.3f}",
                "tests": str(len(cases)),
                "failures": str(sum(case.outcome is Outcome.failed for case in cases)),
                "skipped": str(sum(case.outcome is Outcome.skipped for case in cases)),
            }
            element = Xml.SubElement(root, "testsuite", attributes)
            for case in cases:
                one = Xml.SubElement(
                    element, "testcase", name=case.name, classname=str(suite), time=f"{case.seconds:.3f}"
                )
                if case.outcome is Outcome.failed:
                    Xml.SubElement(one, "failure", message=case.found)
                elif case.outcome is Outcome.skipped:
                    Xml.SubElement(one, "skipped", message=case.found)
                else:
                    Xml.SubElement(one, "system-out").text = case.found
        Xml.indent(root)
        return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def validate(
    scene: Scene,
    checks: Iterable[Check],
    suites: Sequence[Suite] = tuple(Suite),
    *,
    by: str,
    on_production: bool = False,
    tell: Callable[[Result], None] = lambda _: None,
) -> Validated:
    """Run the checks of these suites, clean up, write the verdict down.

    Args:
        on_production: the explicit override that lets more than smoke tests run there.
        tell: hears of each result.

    Raises:
        ValidationRefusedError: this is production, and more than harmless steps were asked for.
        SketchyError: the database is away.
    """
    wanted = [check for check in checks if check.suite in suites]
    if scene.settings.environment is Environment.production and not on_production:
        if any(suite is not Suite.smoke for suite in suites):
            raise ValidationRefusedError(
                "this is production: only the suite smoke runs there without an explicit override"
            )
        wanted = [check for check in wanted if check.harmless]
    results = []
    try:
        for check in wanted:
            results.append(_run(check, scene))
            tell(results[-1])
    finally:
        _clean_up(scene)
    verdict = judge(results, suites)
    version = this_version(scene.settings)
    target = f"{scene.settings.environment}"
    with connect(scene.settings, Role.operator, application_name="sketchy validation") as connection:
        number = validations.record(
            connection,
            version,
            verdict,
            results,
            target=target,
            suites=[str(suite) for suite in suites],
            began_at=scene.began_at,
            by=by,
        )
    log.info("validated", number=number, go=verdict.go, why=verdict.why, version=version.label)
    return Validated(number, version, verdict, results, target, dict(scene.numbers))


def _cell(text: str) -> str:
    return text.replace("|", "/")


def _run(check: Check, scene: Scene) -> Result:
    began = time.monotonic()
    try:
        found, outcome = check.do(scene), Outcome.passed
    except CannotTryError as error:
        found, outcome = error.in_one_line(), Outcome.skipped
    except SketchyError as error:
        found, outcome = error.in_one_line(), Outcome.failed
    except (psycopg.Error, OSError, TimeoutError, ValueError, LookupError) as error:
        found, outcome = f"{type(error).__name__}: {' '.join(str(error).split())}", Outcome.failed
    took = time.monotonic() - began
    log.info("validation_step", name=check.name, outcome=str(outcome), found=found, seconds=round(took, 2))
    return Result(check.name, check.suite, check.line, outcome, found, took)


def _clean_up(scene: Scene) -> None:
    for undo in reversed(scene.clean_up):
        try:
            undo()
        except (SketchyError, psycopg.Error, OSError) as error:
            log.warning("not cleaned up", error=" ".join(str(error).split()))
    scene.clean_up.clear()
