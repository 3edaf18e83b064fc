"""Rollouts as rows: state, changes, verdicts and what they are measured by, as role sketchy_operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypedDict

import psycopg
from psycopg import Connection
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.monitoring import MetricSum
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.domain.analysis import Counts, Judged
from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.domain.rollout import Change, FlagNow, Pause, Rollout, State
from sketchy_orchestration.domain.rollout_plan import Plan
from sketchy_orchestration.domain.service_levels import Sums
from sketchy_orchestration.errors import SketchyError


class RolloutError(SketchyError):
    """A rollout cannot be started or told so; the message says why and what to do."""


class ChangedMeanwhileError(RolloutError):
    """Somebody else has changed the rollout since it was looked at."""


class Message(TypedDict):
    """A message of a change, for one channel."""

    channel: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A change as it is kept."""

    version: int
    at: datetime
    action: str
    by: str
    reason: str
    state: str
    step: int
    percentage: float
    details: dict[str, Any]
    request_id: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest verdict of a metric."""

    metric: str
    verdict: str
    value: float | None
    sample: int
    dry_run: bool
    said: str
    at: datetime
    checkpoint: bool


@dataclass(frozen=True, slots=True)
class EndedGame:
    """A game that has ended after it began; overrun_ms: the furthest a phase went beyond its deadline."""

    handler: str
    completed: bool
    overrun_ms: float | None


def rollouts(
    connection: Connection[Row],
    *,
    flag: str | None = None,
    rollout_id: int | None = None,
    active: bool = False,
    limit: int = 100,
) -> list[Rollout]:
    """Rollouts of one flag or of all, newest first."""
    values = {"flag": flag, "id": rollout_id, "active": active, "limit": limit}
    with connection.cursor(row_factory=dict_row) as cursor:
        return [_rollout(row) for row in cursor.execute(query("rollout.rollouts"), values).fetchall()]


def _rollout(row: Mapping[str, Any]) -> Rollout:
    return Rollout(
        **{
            **row,
            "plan": Plan.model_validate(row["plan"]),
            "state": State(row["state"]),
            "pause": None if row["pause"] is None else Pause(row["pause"]),
            "good": tuple(row["good"]),
            "counts": {name: Counts(**counts) for name, counts in row["counts"].items()},
        }
    )


def flag_now(connection: Connection[Row], flag: str) -> FlagNow:
    """The flag of a rollout.

    Raises:
        RolloutError: there is none of that name, or it is no percentage.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(query("rollout.flag_now"), {"flag": flag}).fetchone()
    if row is None or row["kind"] != "percentage":
        what = "there is no flag" if row is None else f"a {row['kind']} is the flag"
        raise RolloutError(f"{what} {flag}: only percentages are rolled out", hint="sketchy flags list")
    return FlagNow(row["enabled"], row["value"], row["by"], row["reason"])


def begin(
    connection: Connection[Row],
    plan: Plan,
    *,
    by: str,
    reason: str,
    release: str | None,
    messages: Sequence[Message],
    now: datetime | None,
) -> int:
    """Write a new rollout and set its flag; its id.

    Raises:
        RolloutError: another one of the flag is active, or a reason is missing.
    """
    values = {
        "flag": plan.flag,
        "plan": Jsonb(plan.model_dump(mode="json")),
        "percentage": plan.steps[0].percentage,
        "release": release,
        "by": by,
        "reason": reason,
        "now": now,
        "messages": Jsonb(list(messages)),
    }
    with _refusals(plan.flag):
        row = connection.execute(query("rollout.begin"), values).fetchone()
    assert row is not None, "a select of a function answers one row"  # noqa: S101
    return int(row[0])


def change(
    connection: Connection[Row],
    before: Rollout,
    change: Change,
    *,
    by: str,
    reason: str,
    messages: Sequence[Message] = (),
) -> None:
    """Write a change of exactly this version, with its history, its flag and its messages: one statement.

    Raises:
        ChangedMeanwhileError: somebody was quicker.
        RolloutError: another rollout of the flag is active, or a reason is missing.
    """
    after = change.after
    to = {
        name: getattr(after, name)
        for name in ("why", "step", "percentage", "good", "attempt", "paused_seconds", "looked_at")
    }
    moments = {name: getattr(after, name) for name in ("step_since", "paused_at", "changed_at", "looked_at")}
    to |= {name: None if at is None else at.isoformat() for name, at in moments.items()}
    to |= {"state": after.state, "pause": after.pause, "counts": _counts(after.counts)}
    values = {
        "id": before.id,
        "version": before.version,
        "to": Jsonb(to),
        "action": str(change.action),
        "by": by,
        "reason": reason,
        "details": Jsonb({"said": change.said, "verdicts": _verdicts(change.verdicts)}),
        "messages": Jsonb(list(messages)),
    }
    with _refusals(before.flag):
        row = connection.execute(query("rollout.change"), values).fetchone()
    if row is None or not row[0]:
        raise ChangedMeanwhileError(
            f"rollout {before.id} has been changed meanwhile", hint="look at it again: sketchy rollout status"
        )


def lock_flags(connection: Connection[Row]) -> None:
    """Hold what changing a flag will need, until the transaction ends: before any rollout's row is locked."""
    connection.execute(query("rollout.lock_flags"))


def record_look(
    connection: Connection[Row],
    rollout: Rollout,
    verdicts: Sequence[Judged],
    counts: Mapping[str, Counts],
    now: datetime,
) -> None:
    """Write what a look saw.

    Raises:
        ChangedMeanwhileError: somebody else has looked, or changed it.
    """
    values = {
        "id": rollout.id,
        "version": rollout.version,
        "looks": rollout.looks,
        "now": now,
        "checkpoint": rollout.checkpoint(now),
        "counts": Jsonb(_counts(counts)),
        "verdicts": Jsonb(_verdicts(verdicts)),
    }
    row = connection.execute(query("rollout.record_look"), values).fetchone()
    if row is None or not row[0]:
        raise ChangedMeanwhileError(f"rollout {rollout.id} has been looked at or changed meanwhile")


def halt(connection: Connection[Row], *, by: str, reason: str, messages: Sequence[Message] = ()) -> int:
    """Abort every active rollout and set its flag to 0, whatever else happens; how many."""
    values = {"by": by, "reason": reason, "messages": Jsonb(list(messages))}
    row = connection.execute(query("rollout.halt"), values).fetchone()
    assert row is not None, "a select of a function answers one row"  # noqa: S101
    return int(row[0])


@contextmanager
def controlling_alone(connection: Connection[Row]) -> Iterator[bool]:
    """Whether nobody else walks rollouts now; if so, nobody does until the block or the session ends."""
    row = connection.execute(query("rollout.lease")).fetchone()
    alone = bool(row and row[0])
    try:
        yield alone
    finally:
        if alone and not connection.closed and not connection.broken:
            connection.execute(query("rollout.give_back"))


def changes(connection: Connection[Row], rollout_id: int, limit: int = 100) -> list[Changed]:
    """What became of a rollout, newest first."""
    with connection.cursor(row_factory=class_row(Changed)) as cursor:
        values = {"id": rollout_id, "limit": limit}
        return cursor.execute(query("rollout.changes"), values).fetchall()


def verdicts(connection: Connection[Row], rollout_id: int) -> list[Seen]:
    """The newest verdict of each metric."""
    with connection.cursor(row_factory=class_row(Seen)) as cursor:
        return cursor.execute(query("rollout.verdicts"), {"id": rollout_id}).fetchall()


def window(connection: Connection[Row], since: datetime, until: datetime) -> Sums:
    """What was counted and timed in [since, until), to the second."""
    counts: dict[tuple[str, str], int] = {}
    times: dict[str, Histogram] = {}
    with connection.cursor(row_factory=class_row(MetricSum)) as cursor:
        for each in cursor.execute(query("rollout.window"), {"since": since, "until": until}):
            counts[each.metric, each.label] = each.count
            if each.buckets:
                times.setdefault(each.metric, Histogram()).merge(each.histogram())
    return Sums(counts, times)


def ended_games(connection: Connection[Row], since: datetime, until: datetime) -> list[EndedGame]:
    """Games of ours and of the control group that ended in [since, until)."""
    rows = connection.execute(query("rollout.ended_games"), {"since": since, "until": until})
    return [EndedGame(*row) for row in rows]


def critical_alerts(connection: Connection[Row]) -> tuple[int, str]:
    """How many critical alerts fire, and which."""
    row = connection.execute(query("rollout.critical_alerts")).fetchone()
    assert row is not None, "an aggregate always answers one row"  # noqa: S101
    return int(row[0]), str(row[1])


def _counts(counts: Mapping[str, Counts]) -> dict[str, dict[str, int]]:
    return {name: asdict(each) for name, each in counts.items()}


def _verdicts(judged: Sequence[Judged]) -> list[dict[str, object]]:
    return [
        {
            "metric": each.metric,
            "verdict": str(each.verdict),
            "value": each.value,
            "sample": each.sample,
            "dry_run": each.dry_run,
            "said": each.said,
        }
        for each in judged
    ]


@contextmanager
def _refusals(flag: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation:
        raise RolloutError(
            f"a rollout of {flag} is active already", hint="sketchy rollout status shows it; abort it first"
        ) from None
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.NoDataFound) as error:
        raise RolloutError(f"{error.diag.message_primary}") from None
