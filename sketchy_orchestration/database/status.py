"""One look at the running system, from its own tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from sketchy_orchestration.database.queries import query

WINDOW = 60.0
"""Seconds that lateness and rates look back on."""

# A shift beats every second or so; one that was silent for longer is not counted on.
ALIVE_SECONDS = 5.0

# Enough for a minute at 80 events a second; older ones that wait show in the exact count.
_RECENT_EVENTS = 5_000

_PHASES = ("waiting", "briefing", "drawing", "voting", "results")


@dataclass(frozen=True)
class Shift:
    """A shift that has not ended. Times in seconds."""

    kind: str
    shift_id: str
    pid: int
    host: str
    version: str
    dagster_run_id: str | None
    silent_seconds: float
    age_seconds: float
    lanes: int

    @property
    def alive(self) -> bool:
        return self.silent_seconds < ALIVE_SECONDS


@dataclass(frozen=True)
class Lateness:
    """Of the transitions the timer caused within the window, in milliseconds; None when there were none."""

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True)
class Status:
    """What an operator wants to know first.

    Attributes:
        circuit_seconds: since when it is in its state.
        held_back: share of the last second in which events waited for the flag publish_rate alone.
    """

    games: dict[str, int]
    overdue: int
    oldest_overdue_seconds: float
    set_aside: int
    trigger_failures: int
    transitions: int
    lateness: Lateness
    waiting_events: int
    oldest_waiting_seconds: float
    sent_events: int
    dead_letters: int
    circuit: str
    circuit_reason: str | None
    circuit_seconds: float
    flags_off: list[str]
    enrolment: float
    window_seconds: float = WINDOW
    held_back: float = 0.0
    shifts: list[Shift] = field(default_factory=list)

    def alive(self, kind: str) -> int:
        """How many shifts of this kind (timer, fanout) are at work."""
        return sum(shift.alive for shift in self.shifts if shift.kind == kind)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "shifts": [asdict(shift) | {"alive": shift.alive} for shift in self.shifts]}


def read_status(connection: psycopg.Connection[Any], *, exact: bool = True) -> Status:
    """Look once.

    Args:
        connection: of sketchy_operator or the owner.
        exact: count every event that waits; otherwise only among the latest 5,000, which costs a few ms.
    """
    with connection.cursor(row_factory=dict_row) as cursor:

        def rows(name: str, **values: object) -> list[dict[str, Any]]:
            return cursor.execute(query(f"status.{name}"), values or None).fetchall()

        by_phase = {row["phase"]: row for row in rows("games")}
        overdue = rows("overdue")[0]
        transitions = rows("transitions", window=WINDOW)[0]
        events = rows("recent_events", window=WINDOW, limit=_RECENT_EVENTS)[0]
        waiting = rows("waiting_events")[0] if exact else events
        circuits = rows("circuit")
        worst = next((one for one in circuits if one["state"] != "closed"), circuits[0] if circuits else {})
        flags = {row["name"]: row for row in rows("flags")}
        return Status(
            games={phase: by_phase[phase]["games"] if phase in by_phase else 0 for phase in _PHASES},
            overdue=sum(row["overdue"] for row in by_phase.values()),
            oldest_overdue_seconds=overdue["oldest_seconds"],
            set_aside=overdue["set_aside"],
            trigger_failures=overdue["trigger_failures"],
            transitions=transitions["transitions"],
            lateness=Lateness(transitions["p50_ms"], transitions["p99_ms"], transitions["max_ms"]),
            waiting_events=waiting["waiting"],
            oldest_waiting_seconds=waiting["oldest_seconds"],
            sent_events=events["sent"],
            dead_letters=rows("dead_letters")[0]["dead"],
            circuit=worst.get("state", "unknown"),
            circuit_reason=worst.get("reason"),
            circuit_seconds=worst.get("since_seconds", 0.0),
            flags_off=[name for name in _SWITCHES if name in flags and not flags[name]["enabled"]],
            enrolment=_enrolment(flags.get("enrolment")),
            held_back=rows("held_back")[0]["share"],
            shifts=[Shift(**row) for row in rows("shifts")],
        )


_SWITCHES = ("triggers", "timer_monitoring", "pubnub_broadcasting", "grace_period")


def _enrolment(flag: dict[str, Any] | None) -> float:
    return float(flag["value"]) if flag and flag["enabled"] else 0.0


def shifts_at_work(connection: psycopg.Connection[Any]) -> list[Shift]:
    """The shifts that have sent a heartbeat lately."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = [Shift(**row) for row in cursor.execute(query("status.shifts"))]
    return [shift for shift in found if shift.alive]


def first_transition_after(connection: psycopg.Connection[Any], since: datetime) -> float | None:
    """Seconds from `since` to the first transition that was not the application's own doing."""
    row = connection.execute(query("status.first_transition_after"), {"since": since}).fetchone()
    return row[0] if row else None
