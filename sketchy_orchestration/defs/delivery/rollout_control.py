"""The controller as a sensor, the plan as an asset, its verdicts as asset checks."""

import json
from collections.abc import Iterator

import dagster as dg

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.defs.delivery.rollout_points import ASSET, point
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.delivery import rollout_plans
from sketchy_orchestration.delivery.rollout_controller import Walked, try_walk
from sketchy_orchestration.delivery.rollout_measuring import measure
from sketchy_orchestration.domain.analysis import Judged, Verdict
from sketchy_orchestration.domain.rollout_metrics import METRICS, Measure
from sketchy_orchestration.domain.rollout_plan import ENROLMENT, Plan

OWNER_TAGS = {"owner": "operations"}
# The daemon looks every five seconds; an interval of exactly ten would often miss a turn.
_EVERY = 9
_CHECKS = {str(name): kind.title for name, kind in METRICS.items()} | {
    f"compare_{each}": f"Our games beside the control group's, by Mann-Whitney's test: {each}"
    for each in Measure
}

PLAN = dg.AssetSpec(
    ASSET,
    description=(
        "Where the rollout of enrolment stands: a point for each change, its verdicts as checks whenever one"
        " changes; reported by the sensor rollout_controller, nothing to materialise by hand."
        f"\n\nUnless another is given:\n\n{rollout_plans.markdown(Plan())}"
    ),
    group_name="delivery",
    owners=["team:operations"],
    kinds={"postgres"},
)


@dg.multi_asset_check(
    name="rollout_verdicts",
    specs=[dg.AssetCheckSpec(name, asset=ASSET, description=title) for name, title in _CHECKS.items()],
    can_subset=False,
)
def rollout_verdicts(postgres: PostgresResource) -> Iterator[dg.AssetCheckResult]:
    """Measures the newest rollout of enrolment now and judges it; changes nothing about it."""
    with connect(postgres.settings(), Role.operator, application_name="sketchy rollout") as connection:
        found = table.rollouts(connection, flag=ENROLMENT, limit=1)
        judged = measure(connection, found[0], monitoring.database_now(connection)) if found else []
    by_name = {each.metric: each for each in judged}
    for name in _CHECKS:
        each = by_name.get(name)
        yield dg.AssetCheckResult(
            asset_key=ASSET,
            check_name=name,
            passed=each is None or each.verdict is Verdict.passed,
            severity=_severity(each),
            metadata=_metadata(each),
        )


@dg.sensor(
    name="rollout_controller",
    minimum_interval_seconds=_EVERY,
    default_status=dg.DefaultSensorStatus.RUNNING,
    tags=OWNER_TAGS,
    description=(
        "Walks every active rollout: measures it once a minute and at each checkpoint, takes the next step"
        " when it passed, rolls back when it failed, pauses when there is too little to judge by. Starts no"
        " runs. Turn it off and rollouts stand still, unwatched: pause them instead, or run"
        " `sketchy rollout control`."
    ),
)
def rollout_controller(context: dg.SensorEvaluationContext, postgres: PostgresResource) -> dg.SensorResult:
    walked, said = try_walk(postgres.settings())
    before: dict[str, str] = json.loads(context.cursor or "{}")
    seen = next((each for each in walked if each.rollout.flag == ENROLMENT), None)
    after = before if seen is None else tell(context.instance, seen, before)
    return dg.SensorResult(skip_reason=said, cursor=json.dumps(after))


def tell(instance: dg.DagsterInstance, walked: Walked, before: dict[str, str]) -> dict[str, str]:
    """Report what has changed since the last tick; what is to be remembered until the next."""
    rollout, after = walked.rollout, dict(before)
    version = f"{rollout.id}.{rollout.version}"
    if before.get("version") != version:
        instance.report_runless_asset_event(point(rollout))
        after["version"] = version
    for each in walked.verdicts or ():
        if before.get(each.metric) != each.verdict and each.metric in _CHECKS:
            instance.report_runless_asset_event(_evaluation(each))
            after[each.metric] = str(each.verdict)
    return after


def _evaluation(judged: Judged) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(ASSET),
        check_name=judged.metric,
        passed=judged.verdict is Verdict.passed,
        severity=_severity(judged),
        metadata=_metadata(judged),
    )


def _severity(judged: Judged | None) -> dg.AssetCheckSeverity:
    grave = judged is not None and judged.decides and judged.verdict is Verdict.failed
    return dg.AssetCheckSeverity.ERROR if grave else dg.AssetCheckSeverity.WARN


def _metadata(judged: Judged | None) -> dict[str, dg.MetadataValue]:
    if judged is None:
        return {"verdict": dg.MetadataValue.text("not asked at this percentage, or by this plan")}
    return {
        "verdict": dg.MetadataValue.text(f"{judged.verdict}{' (dry run)' if judged.dry_run else ''}"),
        "said": dg.MetadataValue.text(judged.said),
        "sample": dg.MetadataValue.int(judged.sample),
    }


definitions = dg.Definitions(assets=[PLAN], asset_checks=[rollout_verdicts], sensors=[rollout_controller])
