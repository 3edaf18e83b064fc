"""The controller as a sensor, the plans as assets, their verdicts as asset checks."""

import json
import warnings
from collections.abc import Iterator, Mapping

import dagster as dg
from dagster_shared.utils.warnings import PreviewWarning

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.defs.delivery.rollout_points import ASSET, FLAGS, FLAGS_ASSET, place, point
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.delivery import rollout_plans
from sketchy_orchestration.delivery.rollout_controller import Walked, newest, try_walk
from sketchy_orchestration.delivery.rollout_measuring import measure
from sketchy_orchestration.domain.analysis import Judged, Verdict
from sketchy_orchestration.domain.rollout import ACTIVE
from sketchy_orchestration.domain.rollout_metrics import METRICS, Measure
from sketchy_orchestration.domain.rollout_plan import ENROLMENT, Plan

OWNER_TAGS = {"owner": "operations"}
# The daemon looks every five seconds; an interval of exactly ten would often miss a turn.
_EVERY = 9
# Only enrolment has a control group.
_OF_FLAGS = {str(name): kind.title for name, kind in METRICS.items() if not kind.control}
_OF_ENROLMENT = {str(name): kind.title for name, kind in METRICS.items()} | {
    f"compare_{each}": f"Our games beside the control group's, by Mann-Whitney's test: {each}"
    for each in Measure
}
_REPORTED = (
    "a point for each change, its verdicts as checks whenever one changes; reported by the sensor"
    " rollout_controller, nothing to materialise by hand."
)

PLAN = dg.AssetSpec(
    ASSET,
    description=(
        f"Where the rollout of enrolment stands: {_REPORTED}"
        f"\n\nUnless another is given:\n\n{rollout_plans.markdown(Plan())}"
    ),
    group_name="delivery",
    owners=["team:operations"],
    kinds={"postgres"},
)
PLANS_OF_FLAGS = dg.AssetSpec(
    FLAGS_ASSET,
    description=f"Where the rollouts of all other flags stand, a partition for each flag: {_REPORTED}",
    group_name="delivery",
    owners=["team:operations"],
    kinds={"postgres"},
    partitions_def=FLAGS,
)


def _specs(
    asset: str, titles: Mapping[str, str], partitions: dg.PartitionsDefinition[str] | None = None
) -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        # Checks with partitions are a preview of Dagster's, whose version is bounded.
        warnings.simplefilter("ignore", PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=asset, description=title, partitions_def=partitions)
            for name, title in titles.items()
        ]


@dg.multi_asset_check(name="rollout_verdicts", specs=_specs(ASSET, _OF_ENROLMENT), can_subset=False)
def rollout_verdicts(postgres: PostgresResource) -> Iterator[dg.AssetCheckResult]:
    """Measures the newest rollout of enrolment now and judges it; changes nothing about it."""
    yield from _measured(postgres, ENROLMENT, _OF_ENROLMENT)


@dg.multi_asset_check(
    name="rollout_of_flags_verdicts", specs=_specs(FLAGS_ASSET, _OF_FLAGS, FLAGS), can_subset=False
)
def rollout_of_flags_verdicts(
    context: dg.AssetCheckExecutionContext, postgres: PostgresResource
) -> Iterator[dg.AssetCheckResult]:
    """Measures the newest rollout of the partition's flag now and judges it; changes nothing about it."""
    if not context.has_partition_key:
        raise dg.Failure("launch it for a partition: which flag is meant?", allow_retries=False)
    yield from _measured(postgres, context.partition_key, _OF_FLAGS)


def _measured(
    postgres: PostgresResource, flag: str, names: Mapping[str, str]
) -> Iterator[dg.AssetCheckResult]:
    with connect(postgres.settings(), Role.operator, application_name="sketchy rollout") as connection:
        found = table.rollouts(connection, flag=flag, limit=1)
        judged = measure(connection, found[0], monitoring.database_now(connection)) if found else []
    by_name = {each.metric: each for each in judged}
    asset, _ = place(flag)
    for name in names:
        each = by_name.get(name)
        yield dg.AssetCheckResult(
            asset_key=asset,
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
        " runs. Turn it off and rollouts stand still, unwatched, which is an alert: abort them before, or run"
        " `sketchy rollout control`."
    ),
)
def rollout_controller(context: dg.SensorEvaluationContext, postgres: PostgresResource) -> dg.SensorResult:
    settings = postgres.settings()
    walked, said = try_walk(settings)
    told: dict[str, dict[str, str]] = json.loads(context.cursor or "{}")
    seen = {each.rollout.flag: each for each in walked}
    # Those that a command has ended since are not walked any more, and the asset is to say so.
    unseen = [flag for flag, last in told.items() if last["state"] in ACTIVE and flag not in seen]
    seen |= {each.flag: Walked(each, None, None) for each in newest(settings, unseen)}
    for flag, each in seen.items():
        told[flag] = tell(context.instance, each, told.get(flag, {}))
    return dg.SensorResult(skip_reason=said, cursor=json.dumps(told))


def tell(instance: dg.DagsterInstance, walked: Walked, before: dict[str, str]) -> dict[str, str]:
    """Report what has changed since the last tick; what is to be remembered until the next."""
    rollout = walked.rollout
    version = f"{rollout.id}.{rollout.version}"
    if before.get("version") != version:
        instance.report_runless_asset_event(point(instance, rollout))
    after = {**before, "version": version, "state": str(rollout.state)}
    for each in walked.verdicts or ():
        if before.get(each.metric) != each.verdict:
            instance.report_runless_asset_event(_evaluation(rollout.flag, each))
            after[each.metric] = str(each.verdict)
    return after


def _evaluation(flag: str, judged: Judged) -> dg.AssetCheckEvaluation:
    asset, partition = place(flag)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=judged.metric,
        passed=judged.verdict is Verdict.passed,
        severity=_severity(judged),
        metadata=_metadata(judged),
        partition=partition,
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


definitions = dg.Definitions(
    assets=[PLAN, PLANS_OF_FLAGS],
    asset_checks=[rollout_verdicts, rollout_of_flags_verdicts],
    sensors=[rollout_controller],
)
