"""Staging validation as a job: every line of the checklists as a step, a report and a verdict in the run."""

import dagster as dg
from pydantic import Field

from sketchy_orchestration.defs.resources import PostgresResource, PubNubResource
from sketchy_orchestration.delivery import validation
from sketchy_orchestration.delivery.validation_checks import checks
from sketchy_orchestration.domain.validation import Outcome, Result, Suite
from sketchy_orchestration.local.pubnub.remote import RunningStandIn
from sketchy_orchestration.settings import Settings

OWNER_TAGS = {"owner": "operations", "sketchy/role": "operator", "dagster/max_retries": "0"}


class ValidationConfig(dg.Config):
    """Config of staging_validation. The target is what the resources reach; by default the local stack."""

    target: str = Field(
        default="", description="The environment this must be (development, staging); empty takes any"
    )
    suites: list[str] = Field(
        default=[str(suite) for suite in Suite], description="unit, integration, load, failure, smoke"
    )
    games: int = Field(default=50, ge=1, le=1000, description="Games of the larger load step")
    on_production: bool = Field(
        default=False, description="Run more than smoke tests on production all the same"
    )


def _scene(settings: Settings, games: int) -> validation.Scene:
    origin = settings.pubnub_origin
    local = origin is not None and origin.rpartition(":")[0] in ("127.0.0.1", "localhost")
    faults = RunningStandIn(origin) if local and origin is not None else None
    return validation.Scene(settings, faults=faults, size=games)


@dg.op
def run_the_checklists(
    context: dg.OpExecutionContext,
    config: ValidationConfig,
    postgres: PostgresResource,
    pubnub: PubNubResource,
) -> None:
    """Runs every step, cleans up, records the verdict on this exact version; fails unless all pass."""
    settings = pubnub.settings(postgres)
    if config.target and config.target != str(settings.environment):
        raise dg.Failure(
            f"this is {settings.environment}, not {config.target}: launch it where that is configured",
            allow_retries=False,
        )

    def tell(result: Result) -> None:
        say = context.log.info if result.outcome is Outcome.passed else context.log.error
        say(f"{result.outcome}: {result.name} ({result.line}), {result.seconds:.1f} s: {result.found}")

    done = validation.validate(
        _scene(settings, config.games),
        checks(),
        [Suite(suite) for suite in config.suites],
        by=f"dagster run {context.run_id}",
        on_production=config.on_production,
        tell=tell,
    )
    metadata: dict[str, dg.RawMetadataValue] = {
        "report": dg.MetadataValue.md(done.markdown()),
        "junit": dg.MetadataValue.text(done.junit()),
        "go": done.verdict.go,
        "passed_share": done.verdict.share,
        "version": done.version.label,
    }
    context.add_output_metadata(metadata)
    if any(result.outcome is not Outcome.passed for result in done.results):
        raise dg.Failure(f"no go: {done.verdict.why}", metadata=metadata, allow_retries=False)


@dg.job(tags=OWNER_TAGS)
def staging_validation() -> None:
    """Validates this exact version: games, load, faults, recovery, alerts, rollback, security, smoke tests.

    Launch it as it is; it takes some minutes. The verdict it records is what production_deployment asks for.
    """
    run_the_checklists()


definitions = dg.Definitions(jobs=[staging_validation])
