"""docs/service-levels.md says what the code says."""

from __future__ import annotations

from pathlib import Path

from sketchy_orchestration.domain.service_levels import LEVELS, Objective

PAGE = Path(__file__).parents[3] / "docs" / "service-levels.md"


def told(objective: Objective) -> str:
    share = f"{objective.share * 100:g} %"
    return share + (f" within {objective.within_ms:g} ms" if objective.within_ms else "")


def test_the_page_has_every_contract_and_ambition() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for level in LEVELS:
        row = f"| {level.title} (`{level.name}`) | {told(level.contract)} | {told(level.ambition)} |"
        assert row in text
