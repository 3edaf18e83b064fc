"""Ops: each reads its config, calls one function, reports what it returned."""

from collections.abc import Callable

import dagster as dg
import structlog
from pydantic import Field

from sketchy_orchestration.defs.realtime.assets import materialisation
from sketchy_orchestration.defs.resources import PostgresResource, PubNubResource
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.realtime import passes
from sketchy_orchestration.realtime.shift import (
    EndReason,
    RunningShift,
    ShiftKind,
    ShiftReport,
    new_identity,
    start_shift,
)
from sketchy_orchestration.settings import Settings

RETRY = dg.RetryPolicy(max_retries=4, delay=0.5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

START = RETRY
"""How the start of a shift is retried."""

LEAVE_SECONDS = 5.0
"""A shift that was asked to leave does so within a second; after this its thread dies with the process."""

log = structlog.get_logger(__name__)


class PassConfig(dg.Config):
    """Config of the jobs that make a bounded pass."""

    passes: int = Field(
        default=1, ge=1, le=100, description="How many passes to make, one after the other; each is bounded"
    )


@dg.op(retry_policy=RETRY, tags={"sketchy/kind": "timer"})
def sweep_once(context: dg.OpExecutionContext, config: PassConfig, postgres: PostgresResource) -> None:
    """Moves on every game that is due; bounded, safe beside shifts at work, nothing when none is due."""
    _make_passes(context, config.passes, passes.sweep_pass, postgres.settings())


@dg.op(retry_policy=RETRY, tags={"sketchy/kind": "fanout"})
def relay_once(
    context: dg.OpExecutionContext, config: PassConfig, postgres: PostgresResource, pubnub: PubNubResource
) -> None:
    """Sequences and publishes waiting events of the lanes that no shift holds; bounded."""
    _make_passes(context, config.passes, passes.fanout_pass, pubnub.settings(postgres))


def _make_passes(
    context: dg.OpExecutionContext,
    most: int,
    make: Callable[[Settings], dict[str, float]],
    settings: Settings,
) -> None:
    for number in range(1, most + 1):
        numbers = make(settings)
        context.log.info(
            f"pass {number}: " + ", ".join(f"{name} {value:g}" for name, value in numbers.items())
        )
    context.add_output_metadata({name: float(value) for name, value in numbers.items()})


# The shifts' ops carry no policy: Dagster would apply it to a cancelled run too, and start the op again.
@dg.op(tags={"sketchy/kind": "timer"})
def work_timer_shift(context: dg.OpExecutionContext, postgres: PostgresResource) -> None:
    """Sweeps at every deadline until relieved or stopped. Retries cover the start only."""
    _work(context, ShiftKind.timer, postgres.settings)


@dg.op(tags={"sketchy/kind": "fanout"})
def work_fanout_shift(
    context: dg.OpExecutionContext, postgres: PostgresResource, pubnub: PubNubResource
) -> None:
    """Sequences and publishes events until relieved or stopped. Retries cover the start only."""
    _work(context, ShiftKind.fanout, lambda: pubnub.settings(postgres))


def _work(context: dg.OpExecutionContext, kind: ShiftKind, settings: Callable[[], Settings]) -> None:
    running = _start(context, kind, settings)
    context.log.info(f"{kind} shift {running.identity.shift_id} is at work in process {running.identity.pid}")
    try:
        for report in running.reports():
            _report(context, report)
    except BaseException:
        # A cancelled run interrupts this thread anywhere; the shift's own thread never notices.
        _leave(context, running)
        raise
    if running.error is not None:
        raise dg.Failure(f"the {kind} shift failed: {running.error}") from running.error
    context.log.info(f"the {kind} shift left: {running.end_reason}")
    context.add_output_metadata({"end_reason": str(running.end_reason or EndReason.stopped)})


def _start(context: dg.OpExecutionContext, kind: ShiftKind, settings: Callable[[], Settings]) -> RunningShift:
    try:
        return start_shift(new_identity(kind, context.run_id), settings())
    except SketchyError as error:
        context.log.warning(f"the {kind} shift cannot start: {error.in_one_line()}")
        delay = START.calculate_delay(context.retry_number + 1)
        raise dg.RetryRequested(max_retries=START.max_retries, seconds_to_wait=delay) from error


def _leave(context: dg.OpExecutionContext, running: RunningShift) -> None:
    running.stop()
    if running.join(LEAVE_SECONDS):
        for report in running.reports():
            _report(context, report)


def _report(context: dg.OpExecutionContext, report: ShiftReport) -> None:
    try:
        context.instance.report_runless_asset_event(materialisation(report))
    except Exception as error:
        # Dagster's storage may be away for a while: no reason for the work to stop.
        log.warning("shift report not stored", error=type(error).__name__, kind=str(report.identity.kind))
