"""Ops: each reads its config, calls one function, reports what it returned."""

import dagster as dg
from pydantic import Field

from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.defs.monitoring.scratch import scratch_server
from sketchy_orchestration.defs.resources import PostgresResource, PubNubResource
from sketchy_orchestration.monitoring import event_load, housekeeping, recovery, standing


class ReviewConfig(dg.Config):
    """Config of performance_review."""

    days: int = Field(default=7, ge=1, le=100, description="Days over which players' measures are taken")


class LoadConfig(dg.Config):
    """Config of load_test."""

    games: int = Field(default=50, ge=1, le=5000, description="Games played")
    rate: float = Field(default=5.0, gt=0, le=100, description="Games started per second")
    speed: float = Field(default=4.0, ge=1, le=60, description="Play so many times faster")
    seconds: float = Field(default=600.0, gt=0, le=7200, description="Time limit of the whole test")
    events_per_second: float = Field(default=100.0, ge=0, le=10_000, description="Events beside the games'")
    event_seconds: float = Field(default=10.0, gt=0, le=3600, description="How long those are written")
    burst: int = Field(default=200, ge=1, le=10_000, description="Events written at once in a burst")
    bursts: int = Field(default=1, ge=0, le=100, description="How many bursts")


class DrillConfig(dg.Config):
    """Config of recovery_drill."""

    schemas: list[str] = Field(
        default=["public", "orchestration", "auth"], description="What is dumped and restored"
    )


@dg.op
def review_performance(
    context: dg.OpExecutionContext, config: ReviewConfig, postgres: PostgresResource
) -> None:
    """Writes the week's report: service levels, budgets, what players felt, how much is stored."""
    settings = postgres.settings()
    with connect(settings, Role.operator, application_name="sketchy review") as connection:
        text = standing.markdown(standing.report(connection, standing.levels_of(settings), config.days))
    ours, dagsters = housekeeping.sizes(settings)
    text += f"\nStored: {ours / 1e6:,.1f} MB of ours, {dagsters / 1e6:,.1f} MB of Dagster's.\n"
    context.log.info(text)
    context.add_output_metadata(
        {"report": dg.MetadataValue.md(text), "stored_mb": ours / 1e6, "dagster_mb": dagsters / 1e6}
    )


@dg.op
def test_under_load(
    context: dg.OpExecutionContext, config: LoadConfig, postgres: PostgresResource, pubnub: PubNubResource
) -> None:
    """Plays games with events beside them and checks what is heard; refused in production."""
    done = event_load.play_and_load(
        pubnub.settings(postgres),
        games=config.games,
        games_per_second=config.rate,
        speed=config.speed,
        seconds=config.seconds,
        events_per_second=config.events_per_second,
        event_seconds=config.event_seconds,
        burst=config.burst,
        bursts=config.bursts,
    )
    context.log.info(done.markdown())
    context.add_output_metadata({"report": dg.MetadataValue.md(done.markdown()), **done.numbers})
    if not done.kept:
        raise dg.Failure(f"a promise was broken under load: {'; '.join(done.broken)}")


@dg.op
def drill_recovery(context: dg.OpExecutionContext, config: DrillConfig, postgres: PostgresResource) -> None:
    """Dumps the database, restores it beside, compares and times it; the original is only read."""
    done = recovery.drill(postgres.settings(), scratch_server, schemas=config.schemas)
    context.log.info(done.markdown())
    context.add_output_metadata(
        {
            "report": dg.MetadataValue.md(done.markdown()),
            "dump_seconds": done.dump_seconds,
            "restore_seconds": done.restore_seconds,
            "bytes": done.bytes,
        }
    )
    if done.problems:
        raise dg.Failure(f"the backup cannot be trusted: {'; '.join(done.problems[:5])}")
