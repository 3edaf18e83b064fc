"""Sensors: supervision keeps shifts at work, the backstop moves things on when no shift does."""

import json
from uuid import uuid4

import dagster as dg

from sketchy_orchestration.defs.realtime.assets import OWNER_TAGS
from sketchy_orchestration.defs.realtime.jobs import CELL_TAG, PASS_JOBS, SHIFT_JOBS, cell
from sketchy_orchestration.defs.realtime.runs import UNFINISHED, DagsterRuns
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.domain.supervision import why_no_pass
from sketchy_orchestration.realtime.shift import ShiftKind
from sketchy_orchestration.realtime.supervision import RECENT, overdue_events, overdue_games, supervise

WHY_TAG = "sketchy/why"

# The daemon looks every 5 s; an interval of exactly that, or of 10, would often miss a turn.
_EVERY_LOOK = 4
_EVERY_OTHER_LOOK = 9


@dg.sensor(
    jobs=list(SHIFT_JOBS.values()),
    minimum_interval_seconds=_EVERY_LOOK,
    default_status=dg.DefaultSensorStatus.RUNNING,
    tags=OWNER_TAGS,
    description=(
        "Keeps two timer shifts and two fan-out shifts at work: starts what is missing, starts a successor"
        " for one older than 30 minutes, ends the row and the run of one that is dead or silent. Looks about"
        " every five seconds. Turn it off to start no shifts; those at work stay. While the flag"
        " timer_monitoring is off it starts no timer shift."
    ),
)
def shift_supervision(context: dg.SensorEvaluationContext, postgres: PostgresResource) -> dg.SensorResult:
    settings = postgres.settings()
    before: dict[str, dict[str, str]] = json.loads(context.cursor or "{}")
    runs = DagsterRuns(context.instance)
    suspects: dict[str, dict[str, str]] = {}
    requests: list[dg.RunRequest] = []
    seen: list[str] = []
    for kind, job in SHIFT_JOBS.items():
        plan = supervise(settings, kind, runs, before.get(kind, {}))
        suspects[kind] = plan.suspects
        requests += [_request(kind, job) for _ in range(plan.launch)]
        seen.append(f"{kind}: {plan.reason}")
    return _result(requests, seen, json.dumps(suspects))


@dg.sensor(
    jobs=list(PASS_JOBS.values()),
    minimum_interval_seconds=_EVERY_OTHER_LOOK,
    default_status=dg.DefaultSensorStatus.RUNNING,
    tags=OWNER_TAGS,
    description=(
        "Counts, about every 10 s, games overdue by more than 2 s and, while no fan-out shift is at work,"
        " events that have waited for more than 10 s; only when there are some it requests one pass of"
        " timer_sweep or event_fanout. So games move on and events are heard even when no shift lives. Leave"
        " it on."
    ),
)
def backstop(context: dg.SensorEvaluationContext, postgres: PostgresResource) -> dg.SensorResult:
    settings = postgres.settings()
    requests: list[dg.RunRequest] = []
    seen: list[str] = []
    overdue = {
        ShiftKind.timer: overdue_games(settings),
        ShiftKind.fanout: overdue_events(settings, RECENT),
    }
    for kind, job in PASS_JOBS.items():
        why_not = why_no_pass(overdue[kind], pending=pending_runs(context.instance, job.name))
        if why_not is None:
            requests.append(_request(kind, job))
        seen.append(f"{kind}: {why_not or 'a pass is requested'}")
    return _result(requests, seen)


def _request(kind: ShiftKind, job: dg.JobDefinition) -> dg.RunRequest:
    # A key that any earlier run had, even a failed one, would keep this one from being made.
    return dg.RunRequest(run_key=f"{kind}-{uuid4()}", job_name=job.name)


def _result(requests: list[dg.RunRequest], seen: list[str], cursor: str | None = None) -> dg.SensorResult:
    said = "; ".join(seen)
    if not requests:
        return dg.SensorResult(skip_reason=said, cursor=cursor)
    # A tick that requests runs shows no reason, so the runs carry it.
    told = [request.with_replaced_attrs(tags={**request.tags, WHY_TAG: said}) for request in requests]
    return dg.SensorResult(run_requests=told, cursor=cursor)


def pending_runs(instance: dg.DagsterInstance, job_name: str) -> int:
    """Runs of this job that are requested or under way."""
    own = {CELL_TAG: cell()}
    return instance.get_runs_count(dg.RunsFilter(job_name=job_name, statuses=UNFINISHED, tags=own))


SENSORS = [shift_supervision, backstop]
