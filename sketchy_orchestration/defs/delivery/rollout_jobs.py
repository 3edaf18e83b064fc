"""What an operator does to a rollout, as jobs: each with who and why, both kept."""

import dagster as dg
from pydantic import Field

from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.defs.delivery.rollout_points import tell_asset
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.delivery.rollout_plans import markdown, plan_of
from sketchy_orchestration.domain.rollout import Action
from sketchy_orchestration.domain.rollout_commands import To, Wish
from sketchy_orchestration.domain.rollout_plan import ENROLMENT

TAGS = {"owner": "operations", "sketchy/role": "operator", "dagster/max_retries": "0"}


class _Asked(dg.Config):
    """What every job of a rollout asks for."""

    by: str = Field(min_length=1, description="Who you are; kept with the change")
    reason: str = Field(min_length=1, description="Why; kept with the change")


class StartConfig(_Asked):
    """Config of rollout_start."""

    plan: str = Field(default="", description="The plan as YAML; what it leaves out is as in the default one")
    release: str | None = Field(default=None, description="The version that is rolled out; kept")
    override_freeze: bool = Field(default=False, description="Begin although the plan is frozen now")


class TellConfig(_Asked):
    """Config of the others."""

    flag: str = Field(default=ENROLMENT, description="The flag whose newest rollout is meant")
    step: int | None = Field(
        default=None,
        description="Refuse unless it stands at this step (0 is the first): safe to launch twice",
    )


class GoOnConfig(TellConfig):
    """Config of those that go on."""

    override_freeze: bool = Field(default=False, description="Go on although the plan is frozen now")


class PromoteConfig(GoOnConfig):
    """Config of rollout_promote."""

    full: bool = Field(default=False, description="To the last step at once")


class AbortConfig(TellConfig):
    """Config of rollout_abort."""

    to: str = Field(default="zero", description="Where the flag is left: zero, last_good or stay")


class RetryConfig(GoOnConfig):
    """Config of rollout_retry."""

    from_step: bool = Field(default=False, description="From the step it left, not from the first")


@dg.op
def start(context: dg.OpExecutionContext, config: StartConfig, postgres: PostgresResource) -> None:
    """Begins a rollout; from then on the controller walks it."""
    settings, plan = postgres.settings(), plan_of(config.plan)
    with connect(settings, Role.operator, application_name="sketchy rollout") as connection:
        begun = rollouts.start(
            connection,
            settings,
            plan,
            by=config.by,
            reason=config.reason,
            release=config.release,
            override_freeze=config.override_freeze,
        )
    tell_asset(context, begun)
    context.log.info(f"rollout {begun.id} of {begun.flag} has begun at {begun.percentage:g} %")
    context.add_output_metadata({"rollout": begun.id, "plan": dg.MetadataValue.md(markdown(plan))})


def _tell(context: dg.OpExecutionContext, config: TellConfig, postgres: PostgresResource, wish: Wish) -> None:
    settings = postgres.settings()
    with connect(settings, Role.operator, application_name="sketchy rollout") as connection:
        done = rollouts.tell(
            connection,
            settings,
            config.flag,
            wish,
            by=config.by,
            reason=config.reason,
            step=config.step,
        )
    tell_asset(context, done.rollout)
    context.log.info(done.said)
    context.add_output_metadata(
        {
            "rollout": done.rollout.id,
            "state": str(done.rollout.state),
            "said": dg.MetadataValue.text(done.said),
        }
    )


@dg.op
def pause(context: dg.OpExecutionContext, config: TellConfig, postgres: PostgresResource) -> None:
    """Stops the clock of the step; what is enrolled stays, and a failing verdict still rolls back."""
    _tell(context, config, postgres, Wish(Action.pause))


@dg.op
def resume(context: dg.OpExecutionContext, config: GoOnConfig, postgres: PostgresResource) -> None:
    """Goes on where it was paused, and sets the flag again if somebody had set it otherwise."""
    _tell(context, config, postgres, Wish(Action.resume, override_freeze=config.override_freeze))


@dg.op
def promote(context: dg.OpExecutionContext, config: PromoteConfig, postgres: PostgresResource) -> None:
    """Measures now and takes the next step unless something fails; vouches for what is inconclusive."""
    _tell(
        context,
        config,
        postgres,
        Wish(Action.promote, full=config.full, override_freeze=config.override_freeze),
    )


@dg.op
def skip(context: dg.OpExecutionContext, config: GoOnConfig, postgres: PostgresResource) -> None:
    """Takes the next step without measuring; the one that is left does not count as good."""
    _tell(context, config, postgres, Wish(Action.skip, override_freeze=config.override_freeze))


@dg.op
def abort(context: dg.OpExecutionContext, config: AbortConfig, postgres: PostgresResource) -> None:
    """Ends the rollout: new games go where `to` says, games in play stay with whoever has them."""
    _tell(context, config, postgres, Wish(Action.abort, to=To(config.to)))


@dg.op
def retry(context: dg.OpExecutionContext, config: RetryConfig, postgres: PostgresResource) -> None:
    """Begins a rollout that was aborted or rolled back again, with the same plan."""
    _tell(
        context,
        config,
        postgres,
        Wish(Action.retry, from_step=config.from_step, override_freeze=config.override_freeze),
    )


@dg.op
def undo(context: dg.OpExecutionContext, config: TellConfig, postgres: PostgresResource) -> None:
    """Sets the flag back to what it was before the rollout."""
    _tell(context, config, postgres, Wish(Action.undo))


@dg.job(tags=TAGS)
def rollout_start() -> None:
    """Starts a rollout: 0, 25, 50, 100 % of new games, or the plan you give. One at a time for each flag.

    Launch it when a validated version is at work; `production_deployment` does it by itself.
    """
    start()


@dg.job(tags=TAGS)
def rollout_pause() -> None:
    """Pauses the rollout at its percentage. Launch it when you want to look before it goes on."""
    pause()


@dg.job(tags=TAGS)
def rollout_resume() -> None:
    """Lets a paused rollout go on. One at a gate is promoted instead."""
    resume()


@dg.job(tags=TAGS)
def rollout_promote() -> None:
    """Takes the next step now, after one more look. Launch it at a gate, or to vouch for what is missing."""
    promote()


@dg.job(tags=TAGS)
def rollout_skip() -> None:
    """Takes the next step now, whatever is measured. Launch it only if you know better than the figures."""
    skip()


@dg.job(tags=TAGS)
def rollout_abort() -> None:
    """Ends the rollout and sets the flag to 0, or where you say. Games in play are finished as they are.

    Launch it when players suffer and the checkpoint has not seen it yet.
    """
    abort()


@dg.job(tags=TAGS)
def rollout_retry() -> None:
    """Begins an aborted or rolled back rollout again. Launch it when what was wrong is mended."""
    retry()


@dg.job(tags=TAGS)
def rollout_undo() -> None:
    """Sets the flag back to what it was before the rollout, even after it has completed.

    Launch it when the whole change was a mistake.
    """
    undo()


definitions = dg.Definitions(
    jobs=[
        rollout_start,
        rollout_pause,
        rollout_resume,
        rollout_promote,
        rollout_skip,
        rollout_abort,
        rollout_retry,
        rollout_undo,
    ]
)
