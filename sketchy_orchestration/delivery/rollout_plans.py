"""Plans as people write and read them: YAML in, a table out."""

from __future__ import annotations

import yaml
from pydantic import ValidationError

from sketchy_orchestration.database.rollout import RolloutError
from sketchy_orchestration.domain.rollout_metrics import METRICS
from sketchy_orchestration.domain.rollout_plan import Plan

_HINT = "sketchy rollout plan --yaml prints one to begin with"


def plan_of(text: str) -> Plan:
    """The plan a YAML (or JSON) text describes; what it leaves out is as in the default plan.

    Raises:
        RolloutError: naming each thing that is wrong.
    """
    try:
        values = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        raise RolloutError(f"the plan is no YAML: {' '.join(str(error).split())}", hint=_HINT) from None
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        found = [
            f"{'.'.join(map(str, each['loc'])) or 'plan'}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise RolloutError(f"the plan is wrong: {'; '.join(found)}", hint=_HINT) from None


def as_yaml(plan: Plan) -> str:
    """The plan as `plan_of` reads it."""
    return yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False)


def markdown(plan: Plan) -> str:
    """The plan as Markdown tables: steps, thresholds, comparisons, what a failure does."""
    lines = [
        f"Plan {plan.name} ({plan.fingerprint}, format {plan.version}) of flag {plan.flag}."
        f" Fails to: {plan.on_fail}. Cannot be measured: {plan.on_blind}.",
        "",
        "| step | percentage | hours | gate |",
        "|---|---|---|---|",
        *(
            f"| {number} | {step.percentage:g} % | {step.hours:g} | {'yes' if step.gate else ''} |"
            for number, step in enumerate(plan.steps)
        ),
        "",
        "| metric | limit | sample at least | failing tolerated | errors in a row | no data | |",
        "|---|---|---|---|---|---|---|",
    ]
    for metric in plan.metrics:
        kind = METRICS[metric.name]
        side = ("above" if kind.above else "below") if not kind.reached else "least" if kind.above else "most"
        lines.append(
            f"| {metric.name}: {kind.title} | {side} {metric.at:g} | {metric.minimum}"
            f" | {metric.failure_limit} | {metric.error_limit} | {metric.empty} | {_dry(metric.dry_run)} |"
        )
    for each in plan.comparisons:
        lines.append(
            f"| compare_{each.measure}: beside the control group (Mann-Whitney)"
            f" | worse by {each.effect:g} with confidence {each.confidence:g} | {each.minimum} of each"
            f" | {each.failure_limit} | {each.error_limit} | {each.empty} | {_dry(each.dry_run)} |"
        )
    for freeze in plan.freeze:
        when = (
            f"{freeze.since:%Y-%m-%d %H:%M} to {freeze.until:%Y-%m-%d %H:%M}"
            if freeze.since and freeze.until
            else f"{', '.join(freeze.days)} {freeze.begin:%H:%M} to {freeze.end:%H:%M} UTC"
        )
        lines += ["", f"Frozen {when}: {freeze.why}."]
    return "\n".join(lines) + "\n"


def _dry(dry_run: bool) -> str:
    return "dry run" if dry_run else ""
