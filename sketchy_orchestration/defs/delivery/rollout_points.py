"""The assets of rollouts and their points: where each stands after a change.

Enrolment has the asset `rollout`. Which other flags there are only the database knows: they share an asset
that is partitioned by flag, and each becomes a partition when a rollout of it is first told of.
"""

import dagster as dg

from sketchy_orchestration.delivery import rollout_plans
from sketchy_orchestration.domain.rollout import Rollout
from sketchy_orchestration.domain.rollout_plan import ENROLMENT

ASSET, FLAGS_ASSET = "rollout", "rollout_of_flags"
FLAGS = dg.DynamicPartitionsDefinition(name="rollout_flags")


def place(flag: str) -> tuple[str, str | None]:
    """The asset of a flag's rollouts, and the partition of it."""
    return (ASSET, None) if flag == ENROLMENT else (FLAGS_ASSET, flag)


def point(instance: dg.DagsterInstance, rollout: Rollout) -> dg.AssetMaterialization:
    """What is plotted and shown of it."""
    asset, partition = place(rollout.flag)
    if partition is not None:
        instance.add_dynamic_partitions(str(FLAGS.name), [partition])
    return dg.AssetMaterialization(
        asset,
        partition=partition,
        metadata={
            "rollout": dg.MetadataValue.int(rollout.id),
            "percentage": dg.MetadataValue.float(rollout.percentage),
            "step": dg.MetadataValue.int(rollout.step),
            "state": dg.MetadataValue.text(str(rollout.state)),
            "said": dg.MetadataValue.text(rollout.why),
            "plan": dg.MetadataValue.md(rollout_plans.markdown(rollout.plan)),
        },
    )


def tell_asset(context: dg.OpExecutionContext, rollout: Rollout) -> None:
    """Add the point to the run that made the change."""
    context.log_event(point(context.instance, rollout))
