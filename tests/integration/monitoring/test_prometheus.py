"""A real Prometheus scrapes a real gateway and answers the dashboard's queries."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.monitoring import dashboard
from tests.integration.gateway.serving import serving, settings_for
from tests.integration.monitoring.conftest import Facts

_MORE = """
    update orchestration.metric_totals t
    set count = count + 10, total = total + 10,
        buckets = (select coalesce(jsonb_object_agg(e.key, e.value::bigint + 10), '{}')
                   from jsonb_each_text(t.buckets) e)
"""
DEPLOY = Path(__file__).parents[3] / "deploy" / "prometheus"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.timeout(180)
def test_prometheus_answers_the_dashboard(
    database_url: str, operator: psycopg.Connection, facts: Facts, tmp_path: Path
) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed; on Debian: apt-get install prometheus")
    facts.at_work()
    facts.forget_roll_ups()
    facts.transition(count=9)
    facts.transition(phases=("voting", "completed"))
    facts.event()
    facts.failed_attempts(2, age=120)
    facts.live_game(overdue=30)
    monitoring.observe(operator, "canary", 20, label="local")
    monitoring.observe(operator, "dagster_daemon_alive", 1)
    monitoring.roll_up(operator)
    # What only games of the application would leave behind.
    facts.connection.execute(
        "insert into orchestration.metric_totals (metric, label, count, total, buckets)"
        " values ('trigger', '', 5, 2, '{\"12\": 5}'), ('drawings_lost', 'orchestration', 1, 0, '{}')"
    )
    with serving(settings_for(database_url)) as gateway:
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))
        rules["groups"][0]["interval"] = "1s"  # else two looks at a rule take half a minute
        (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
        config["rule_files"] = ["alerts.yml"]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [gateway.url.removeprefix("http://")]}]
        del config["alerting"]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        log = (tmp_path / "log").open("wb")
        prometheus = subprocess.Popen(
            [
                program,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=10, trust_env=False) as client:

                def answers(query: str) -> bool:
                    try:
                        found = client.get("/api/v1/query", params={"query": query}).json()
                    except (httpx.TransportError, ValueError):
                        return False  # it is still starting
                    series = found.get("data", {}).get("result", [])
                    return any(one["value"][1] != "NaN" for one in series)

                assert wait_until(lambda: answers("sketchy_up == 1"), seconds=30)
                # Something happens between two scrapes, so that there is a rate.
                facts.connection.execute(_MORE)
                queries = [q for _, row in dashboard.ROWS for panel in row for q, _ in panel.queries]

                def unanswered() -> list[str]:
                    return [query for query in queries if not answers(query)]

                wait_until(lambda: not unanswered(), seconds=40, pause=1.0)
                assert unanswered() == []
                overdue = 'ALERTS{alertname="SketchyGamesOverdue",alertstate="firing"}'
                assert wait_until(lambda: answers(overdue), seconds=30)
        finally:
            prometheus.terminate()
            prometheus.wait(20)
            log.close()
