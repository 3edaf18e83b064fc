from __future__ import annotations

from pathlib import Path

from sketchy_orchestration.monitoring import dashboard

FILE = Path(__file__).parents[3] / "deploy" / "grafana" / "sketchy.json"


def test_the_file_is_what_the_code_says() -> None:
    assert FILE.read_text(encoding="utf-8") == dashboard.text()


def test_it_asks_only_for_metrics_that_exist() -> None:
    assert len(dashboard.names_used()) > 30
    assert dashboard.names_missing() == set()


def test_the_kpis_of_the_contract_are_there() -> None:
    titles = {panel.title for _, row in dashboard.ROWS for panel in row}
    assert {
        "Timer monitoring executions per hour",
        "Event broadcasting per hour",
        "Response time by function",
        "Connection pool utilisation",
        "PubNub delivery rate",
        "Error rate",
    } <= titles


def test_no_panels_overlap() -> None:
    taken = set()
    for panel in dashboard.document()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells
