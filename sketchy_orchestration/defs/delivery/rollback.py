"""The way back as jobs: everything at once, one flag, or what answers a known risk."""

import dagster as dg
from pydantic import Field

from sketchy_orchestration.defs.delivery.deployment import previous_back
from sketchy_orchestration.defs.delivery.reporting import OWNER_TAGS, report, teller
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.delivery import emergency, rollback
from sketchy_orchestration.domain.rollback import Risk
from sketchy_orchestration.errors import SketchyError

# Ahead of everything that waits for a place.
URGENT_TAGS = {**OWNER_TAGS, "dagster/priority": "100"}


class EmergencyConfig(dg.Config):
    """Config of emergency_rollback."""

    reason: str = Field(default="launched from the Dagster UI", min_length=1, description="Why; kept")
    release: bool | None = Field(
        default=None,
        description="Hand the games in play to the legacy handler, for good. Unset: if LEGACY_HANDLER is set",
    )
    previous_release: bool = Field(
        default=True, description="Take the last deployment back, if it was made within the last day"
    )
    triggers_off: bool = Field(default=False, description="Also let our triggers do nothing")
    dry_run: bool = Field(default=False, description="Say what would be done and change nothing")


class PartialConfig(dg.Config):
    """Config of partial_rollback."""

    flag: str = Field(default="pubnub_broadcasting", description="The flag to switch off")
    reason: str = Field(default="launched from the Dagster UI", min_length=1, description="Why; kept")
    dry_run: bool = Field(default=True, description="Say what would be done and change nothing")


class RiskConfig(dg.Config):
    """Config of the rollbacks that answer a known risk."""

    reason: str = Field(default="launched from the Dagster UI", min_length=1, description="Why; kept")
    dry_run: bool = Field(default=True, description="Say what would be done and change nothing")


def _by(context: dg.OpExecutionContext) -> str:
    return f"dagster:{context.run.tags.get('user', 'operator')}"


@dg.op
def stop_everything(
    context: dg.OpExecutionContext, config: EmergencyConfig, postgres: PostgresResource
) -> None:
    """Timers and broadcasting off in one transaction, relays silent, games handed over if so configured."""
    settings = postgres.settings()
    done = emergency.emergency_stop(
        settings,
        by=_by(context),
        reason=config.reason,
        release=config.release,
        triggers_off=config.triggers_off,
        dry_run=config.dry_run,
        tell=teller(context),
    )
    if config.previous_release and not config.dry_run:
        try:
            back = previous_back(
                settings, context.instance, by=_by(context), reason=config.reason, tell=teller(context)
            )
            if back is not None:
                done.did("previous release back", "at work as soon as the stop is lifted", ok=back.ok)
        except SketchyError as error:
            done.did("previous release back", error.in_one_line(), ok=False)
    report(context, "emergency stop" + (" (dry run)" if config.dry_run else ""), done)


@dg.op
def switch_one_off(context: dg.OpExecutionContext, config: PartialConfig, postgres: PostgresResource) -> None:
    """Switches one flag off, with the reason in its history; everything else goes on."""
    done = rollback.switch_off(
        postgres.settings(),
        config.flag,
        by=_by(context),
        reason=config.reason,
        dry_run=config.dry_run,
        tell=teller(context),
    )
    report(context, f"partial rollback of {config.flag}", done)


def _answering(risk: Risk, what: str) -> dg.OpDefinition:
    @dg.op(name=f"answer_{risk}", description=what)
    def answer(context: dg.OpExecutionContext, config: RiskConfig, postgres: PostgresResource) -> None:
        done = rollback.answer(
            postgres.settings(),
            risk,
            by=_by(context),
            reason=config.reason,
            dry_run=config.dry_run,
            tell=teller(context),
        )
        report(context, f"rollback of risk {risk}", done)

    return answer


@dg.job(tags=URGENT_TAGS)
def emergency_rollback() -> None:
    """Stops every transition and every publish within a second of its first statement. Safe to launch twice.

    It takes effect as it is launched: no config is needed. `sketchy stop --emergency` does the same without
    Dagster; `sketchy stop --lift` takes it back. Docs: docs/rollback.md.
    """
    stop_everything()


@dg.job(tags=URGENT_TAGS)
def partial_rollback() -> None:
    """Switches one flag off, by default pubnub_broadcasting. Says what it would do until dry_run is false.

    Launch it when one part does harm and the rest is well.
    """
    switch_one_off()


@dg.job(tags=URGENT_TAGS)
def rollback_pubnub() -> None:
    """PubNub fails: broadcasting off, database updates go on. A dry run until dry_run is false.

    Launch it when PubNub delivers wrongly; an outage alone needs nothing, the circuit opens by itself.
    """
    _answering(Risk.pubnub, "Switches broadcasting off; games go on, events wait, nothing is lost.")()


@dg.job(tags=URGENT_TAGS)
def rollback_connections() -> None:
    """Connections run out: a quarter of the concurrency, every connection anew. A dry run by default.

    Launch it when the application is refused connections because of this system.
    """
    _answering(Risk.connections, "Lowers concurrency and lets every shift leave, so that it reconnects.")()


@dg.job(tags=URGENT_TAGS)
def rollback_overlaps() -> None:
    """Timers overlap: timers off; games are moved on by `sketchy games advance`. A dry run by default.

    Launch it when two handlers move the same games.
    """
    _answering(Risk.overlaps, "Switches the timers off, so that only an operator moves games on.")()


definitions = dg.Definitions(
    jobs=[
        emergency_rollback,
        partial_rollback,
        rollback_pubnub,
        rollback_connections,
        rollback_overlaps,
    ]
)
