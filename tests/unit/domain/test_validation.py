"""Go or no go: every suite, every step, a fresh verdict, and what people vouch for."""

from __future__ import annotations

import pytest

from sketchy_orchestration.domain.validation import Item, Outcome, Result, Suite, Verdict, judge, refusal

ALL = dict.fromkeys(Item, True)


def results(*outcomes: Outcome) -> list[Result]:
    return [Result(f"step{n}", Suite.unit, "a line", outcome, "", 0.1) for n, outcome in enumerate(outcomes)]


def test_everything_must_pass_and_the_contracts_gate_is_told_beside() -> None:
    verdict = judge(results(*[Outcome.passed] * 20), list(Suite))
    assert (verdict.go, verdict.share, verdict.why) == (True, 1.0, "every step passed")
    verdict = judge(results(*[Outcome.passed] * 39, Outcome.failed), list(Suite))
    assert (verdict.go, verdict.within_contract, verdict.why) == (False, True, "failed: step39")


@pytest.mark.parametrize(
    ("outcomes", "suites", "why"),
    [
        ([], list(Suite), "nothing was checked"),
        ([Outcome.passed], [Suite.unit, Suite.smoke], "not run: integration, load, failure"),
        ([Outcome.passed, Outcome.skipped], list(Suite), "skipped: step1"),
    ],
)
def test_what_was_not_tried_proves_nothing(outcomes: list[Outcome], suites: list[Suite], why: str) -> None:
    verdict = judge(results(*outcomes), suites)
    assert not verdict.go
    assert verdict.why == why


def test_a_result_is_kept_with_everything_it_says() -> None:
    (result,) = results(Outcome.failed)
    assert result.as_dict() == {
        "name": "step0",
        "suite": "unit",
        "line": "a line",
        "outcome": "failed",
        "found": "",
        "seconds": 0.1,
    }


def test_a_version_is_refused_with_every_reason() -> None:
    go = Verdict(True, 1.0, "every step passed")
    assert refusal(go, 6.9, ALL) == []
    assert "7.1 days old" in refusal(go, 7.1, ALL)[0]
    assert "has not been validated" in refusal(None, 0, ALL)[0]
    assert refusal(Verdict(False, 0.9, "failed: burst"), 0, ALL) == [
        "its last validation says no go: failed: burst"
    ]
    assert refusal(go, 0, ALL | {Item.team_training: False}) == [
        "the attestation of team_training has expired"
    ]
    assert len(refusal(None, 0, {})) == 1 + len(Item)
