"""When a version may go to production: what was checked, what people vouch for, and the verdict on both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

OUR_GATE = 1.0
"""Share of the steps that must pass."""

CONTRACT_GATE = 0.95
"""Share the contract asks for; shown beside ours."""

FRESH_DAYS = 7.0
"""A verdict older than this is no longer one."""


class Suite(StrEnum):
    """Parts of a validation."""

    unit = "unit"
    integration = "integration"
    load = "load"
    failure = "failure"
    smoke = "smoke"


class Item(StrEnum):
    """What no program can check and a person vouches for."""

    security_signoff = "security_signoff"
    team_training = "team_training"
    documentation = "documentation"


class Outcome(StrEnum):
    """What came of a step; skipped: it could not be tried here, and so proves nothing."""

    passed = "passed"
    failed = "failed"
    skipped = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """One step: `line` of the checklist it answers, what it `found`, how many seconds it took."""

    name: str
    suite: Suite
    line: str
    outcome: Outcome
    found: str
    seconds: float

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "suite": str(self.suite),
            "line": self.line,
            "outcome": str(self.outcome),
            "found": self.found,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """Go or no go, and why; `share` of the steps that passed."""

    go: bool
    share: float
    why: str

    @property
    def within_contract(self) -> bool:
        """Whether the contract's gate is met, which is not ours."""
        return self.share > CONTRACT_GATE


def judge(results: Sequence[Result], suites: Collection[Suite]) -> Verdict:
    """The verdict on one validation: every suite run, every step passed.

    Args:
        suites: those that were run.
    """
    passed = sum(result.outcome is Outcome.passed for result in results)
    share = passed / len(results) if results else 0.0
    reasons = []
    if missing := [str(suite) for suite in Suite if suite not in suites]:
        reasons.append(f"not run: {', '.join(missing)}")
    for outcome in (Outcome.failed, Outcome.skipped):
        if names := [result.name for result in results if result.outcome is outcome]:
            reasons.append(f"{outcome}: {', '.join(names)}")
    if not results:
        reasons.append("nothing was checked")
    return Verdict(not reasons and share >= OUR_GATE, share, "; ".join(reasons) or "every step passed")


def refusal(
    verdict: Verdict | None, age_days: float, attested: Mapping[str, bool], *, fresh_days: float = FRESH_DAYS
) -> list[str]:
    """Why this version may not be deployed; empty when it may.

    Args:
        verdict: the newest on this very version; None when there is none.
        age_days: of that verdict.
        attested: items somebody vouched for, and whether that still holds.
    """
    reasons = []
    if verdict is None:
        reasons.append(
            "this very version has not been validated: run `sketchy validate` or staging_validation"
        )
    elif not verdict.go:
        reasons.append(f"its last validation says no go: {verdict.why}")
    elif age_days > fresh_days:
        reasons.append(f"its last validation is {age_days:.1f} days old, at most {fresh_days:g} are allowed")
    for item in Item:
        if item not in attested:
            reasons.append(f"nobody attests {item}: `sketchy validate attest {item} --note ...`")
        elif not attested[item]:
            reasons.append(f"the attestation of {item} has expired")
    return reasons
