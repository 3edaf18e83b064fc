"""A point of the asset `rollout`: where the rollout of enrolment stands after a change."""

import dagster as dg

from sketchy_orchestration.delivery import rollout_plans
from sketchy_orchestration.domain.rollout import Rollout
from sketchy_orchestration.domain.rollout_plan import ENROLMENT

ASSET = "rollout"


def point(rollout: Rollout) -> dg.AssetMaterialization:
    """What is plotted and shown of it."""
    return dg.AssetMaterialization(
        ASSET,
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
    """Add the point to the run that made the change; other flags have no asset."""
    if rollout.flag == ENROLMENT:
        context.log_event(point(rollout))
