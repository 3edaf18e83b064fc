"""deploy/prometheus as Prometheus' own tools see it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sketchy_orchestration.domain.alerting import Channel, Rule
from sketchy_orchestration.monitoring import prometheus_rules
from sketchy_orchestration.monitoring.metric_names import GAUGES
from sketchy_orchestration.monitoring.prometheus_rules import PRODUCT_ONLY, expression, name_of
from sketchy_orchestration.monitoring.rules import BY_NAME, RULES, UnknownRuleError, rules_of
from sketchy_orchestration.settings import Settings

DEPLOY = Path(__file__).parents[3] / "deploy" / "prometheus"
EXPOSED = [rule for rule in RULES if rule.name not in PRODUCT_ONLY]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; on Debian: apt-get install prometheus prometheus-alertmanager")
    return found


def run(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_file_is_what_the_rules_say() -> None:
    assert (DEPLOY / "alerts.yml").read_text(encoding="utf-8") == prometheus_rules.text()


def test_every_rule_is_named_once_and_tells_its_numbers() -> None:
    assert len(BY_NAME) == len(RULES)
    for rule in RULES:
        assert rule.told(3.14159, "x")
        assert rule.name in PRODUCT_ONLY or rule.signal in GAUGES


def test_the_rules_are_those_of_the_contract() -> None:
    asked = {name: (BY_NAME[name].limit, BY_NAME[name].channels) for name in BY_NAME}
    assert asked["high_error_rate"] == (0.05, ("slack", "email"))
    assert asked["sweep_timeout"] == (30, ("slack", "pagerduty"))
    assert asked["pubnub_failures"] == (10, ("slack",))


def test_settings_change_limits_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "ALERT_RULES", '{"old_transaction": {"limit": 300}, "shifts_gone": {"for_seconds": 5}}'
    )
    changed = {rule.name: rule for rule in rules_of(Settings(_env_file=None))}
    assert (changed["old_transaction"].limit, changed["shifts_gone"].for_seconds) == (300, 5)
    assert (changed["shifts_gone"].limit, changed["games_overdue"]) == (1, BY_NAME["games_overdue"])
    assert "sketchy_database_oldest_transaction_seconds > 300" in prometheus_rules.text(changed.values())
    with pytest.raises(UnknownRuleError, match="'old_transactions', which is no rule"):
        rules_of(Settings(_env_file=None, alert_rules={"old_transactions": {"limit": 1}}))
    monkeypatch.setenv("ALERT_RULES", '{"old_transaction": {"limits": 300}}')
    with pytest.raises(ValidationError, match="limit"):
        Settings(_env_file=None)


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    assert f"{len(EXPOSED) + 1} rules found" in run(tool("promtool"), "check", "rules", DEPLOY / "alerts.yml")
    run(tool("promtool"), "check", "config", "--syntax-only", DEPLOY / "prometheus.yml")


def test_amtool_accepts_the_configuration() -> None:
    assert "SUCCESS" in run(tool("amtool"), "check-config", DEPLOY / "alertmanager.yml")


@pytest.mark.parametrize("channels", sorted({rule.channels for rule in EXPOSED}))
def test_alertmanager_tells_those_whom_the_product_would_tell(channels: tuple[Channel, ...]) -> None:
    words = ("config", "routes", "test", f"--config.file={DEPLOY / 'alertmanager.yml'}")
    told = run(tool("amtool"), *words, f"channels={','.join(channels)}")
    assert set(told.splitlines()[0].split(",")) == set(channels)


def case(rule: Rule, value: float, *, fires: bool) -> dict[str, Any]:
    gauge = GAUGES[rule.signal]
    labels = f'{{{gauge.label}="x"}}' if gauge.label else ""
    series = [{"series": f"{gauge.name}{labels}", "values": f"{value:g}x100"}]
    if rule.beside is not None:
        series.append({"series": GAUGES[rule.beside[0]].name, "values": "1x100"})
    entry = next(
        each
        for each in prometheus_rules.document([rule])["groups"][0]["rules"]
        if each["alert"] == name_of(rule)
    )
    expected = []
    if fires:
        shown = {
            '{{ printf "%.4g" $value }}': f"{value:.4g}",
            f"{{{{ $labels.{gauge.label} }}}}": "x",
        }
        summary = entry["annotations"]["summary"]
        for template, text in shown.items():
            summary = summary.replace(template, text)
        expected = [
            {
                "exp_labels": {**entry["labels"], **({gauge.label: "x"} if gauge.label else {})},
                "exp_annotations": {**entry["annotations"], "summary": summary},
            }
        ]
    minutes = rule.for_seconds // 60 + 2
    return {
        "interval": "15s",
        "input_series": series,
        "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": name_of(rule), "exp_alerts": expected}],
    }


def test_promtool_sees_each_rule_fire_beyond_its_limit_and_only_there(tmp_path: Path) -> None:
    promtool = tool("promtool")
    cases = []
    for rule in EXPOSED:
        divide = GAUGES[rule.signal].divide
        beyond = rule.limit / 2 if rule.below else (rule.limit * 2 or 1)
        cases += [
            case(rule, beyond / divide, fires=True),
            case(rule, rule.limit / divide, fires=False),
        ]
    tests = tmp_path / "alerts_test.yml"
    tests.write_text(
        yaml.safe_dump(
            {"rule_files": [str(DEPLOY / "alerts.yml")], "evaluation_interval": "15s", "tests": cases}
        ),
        encoding="utf-8",
    )
    assert "SUCCESS" in run(promtool, "test", "rules", tests)


def test_expressions() -> None:
    assert expression(BY_NAME["games_overdue"]) == "sketchy_games_overdue_seconds > 5"
    assert expression(BY_NAME["canary_slow"]) == "sketchy_canary_last_seconds > 1"
    assert expression(BY_NAME["shifts_gone"]) == "sketchy_shifts_at_work < 1"
    assert expression(BY_NAME["presence_anomaly"]) == (
        "sketchy_players_left_recent > 20 and sketchy_players_left_recent > 3 * sketchy_players_joined_recent"
    )
