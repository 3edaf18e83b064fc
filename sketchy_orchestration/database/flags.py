"""Flags: switches, percentages and numbers in the database, effective within a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import psycopg
from psycopg import Connection
from psycopg.rows import class_row, dict_row

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Environment, Settings


class FlagError(SketchyError):
    """A flag is unknown, or may not have the value."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `value` is a percentage (0 to 100) or a number; a switch has none."""

    name: str
    kind: str
    enabled: bool
    value: Decimal | None
    allow: list[str]
    deny: list[str]
    description: str
    changed_at: datetime
    changed_by: str
    reason: str

    @property
    def shown(self) -> str:
        """The state in a word: on, off, 25 %, 500."""
        if not self.enabled:
            return "off"
        if self.value is None:
            return "on"
        number = f"{self.value.normalize():f}"
        return f"{number} %" if self.kind == "percentage" else number


def flags(connection: Connection[Row]) -> list[Flag]:
    """All flags, by name."""
    with connection.cursor(row_factory=class_row(Flag)) as cursor:
        return cursor.execute(query("flags.list"), {"name": None}).fetchall()


def flag(connection: Connection[Row], name: str) -> Flag:
    """One flag.

    Raises:
        FlagError: there is none of that name.
    """
    with connection.cursor(row_factory=class_row(Flag)) as cursor:
        found = cursor.execute(query("flags.list"), {"name": name}).fetchone()
    if found is None:
        known = ", ".join(one.name for one in flags(connection))
        raise FlagError(f"there is no flag {name!r}; there are: {known}")
    return found


def history(connection: Connection[Row], name: str, limit: int = 50) -> list[dict[str, object]]:
    """Who changed the flag, when, to what and why; newest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query("flags.history"), {"name": name, "limit": limit}).fetchall()


def set_flag(
    connection: Connection[Row],
    name: str,
    *,
    by: str,
    reason: str,
    enabled: bool | None = None,
    value: Decimal | float | None = None,
    allow: Sequence[str] | None = None,
    deny: Sequence[str] | None = None,
) -> Flag:
    """Change what is given and leave the rest.

    Raises:
        FlagError: no such flag, no reason, or a value the flag's kind does not take.
    """
    values = {
        "name": name,
        "by": by,
        "reason": reason,
        "enabled": enabled,
        "value": value,
        "allow": None if allow is None else list(allow),
        "deny": None if deny is None else list(deny),
    }
    try:
        with connection.cursor(row_factory=class_row(Flag)) as cursor:
            changed = cursor.execute(query("flags.set"), values).fetchone()
    except psycopg.errors.CheckViolation:
        kind = flag(connection, name).kind
        allowed = {"switch": "on or off", "percentage": "0 to 100", "number": "a number"}[kind]
        raise FlagError(f"flag {name} is a {kind} and takes {allowed}, not {value}") from None
    except (psycopg.errors.NoDataFound, psycopg.errors.InvalidParameterValue) as error:
        raise FlagError(f"{error.diag.message_primary}", hint=error.diag.message_hint) from None
    assert changed is not None, "set_flag answers the flag or raises"  # noqa: S101
    return changed


def add_flag(
    connection: Connection[Row],
    name: str,
    kind: str,
    *,
    value: Decimal | float | None,
    description: str,
    by: str,
    reason: str,
    enabled: bool = True,
) -> Flag:
    """Add a flag of an operator's own: a switch (without a value), a percentage or a number.

    Raises:
        FlagError: the name is taken or wrong, the kind is none, the value is not one of the kind's.
    """
    values = {
        "name": name,
        "kind": kind,
        "enabled": enabled,
        "value": value,
        "description": description,
        "by": by,
        "reason": reason,
    }
    try:
        connection.execute(query("flags.add"), values)
    except psycopg.errors.UniqueViolation:
        raise FlagError(f"there is a flag {name} already", hint="sketchy flags set changes it") from None
    except psycopg.errors.CheckViolation:
        raise FlagError(
            f"a flag {name!r} of kind {kind} and value {value} cannot be",
            hint="a name is a-z, 0-9 and _; a switch has no value, a percentage 0 to 100, a number any",
        ) from None
    except psycopg.errors.InvalidParameterValue as error:
        raise FlagError(f"{error.diag.message_primary}") from None
    return flag(connection, name)


def remove_flag(connection: Connection[Row], name: str, *, by: str, reason: str) -> None:
    """Take a flag away that an operator added; its history stays.

    Raises:
        FlagError: there is none, it came with the system, or it is being rolled out.
    """
    try:
        connection.execute(query("flags.remove"), {"name": name, "by": by, "reason": reason})
    except (
        psycopg.errors.NoDataFound,
        psycopg.errors.ObjectInUse,
        psycopg.errors.InvalidParameterValue,
    ) as error:
        raise FlagError(f"{error.diag.message_primary}", hint=error.diag.message_hint) from None


def asked(connection: Connection[Row], name: str, subject: str) -> tuple[bool, int]:
    """Whether the subject is within the flag, and its bucket (0 to 9,999).

    Raises:
        FlagError: there is no such flag.
    """
    flag(connection, name)
    row = connection.execute(query("flags.asked"), {"name": name, "subject": subject}).fetchone()
    assert row is not None, "a select without from answers one row"  # noqa: S101
    return bool(row[0]), int(row[1])


def apply_environment(
    connection: Connection[Row], settings: Settings, *, enrolment: float | None = None
) -> None:
    """Give flags that nobody has changed yet the values of the environment.

    Args:
        enrolment: percent of new games to handle, where the database is our own to decide over (local).

    Raises:
        FlagError: production has not chosen how fast it publishes.
    """
    defaults: dict[str, tuple[bool | None, float | None]] = {
        "timer_monitoring": (settings.enable_timer_monitoring, None),
        "pubnub_broadcasting": (settings.enable_pubnub_broadcasting, None),
        "grace_period": (settings.enable_grace_period, None),
        "max_games_per_sweep": (None, settings.max_games_per_execution),
        "fanout_concurrency": (None, settings.timer_concurrency_limit),
        "publish_rate": (None, settings.publish_rate),
        "enrolment": (None, enrolment),
    }
    for name, (enabled, value) in defaults.items():
        connection.execute(query("flags.set_default"), {"name": name, "enabled": enabled, "value": value})
    chosen = settings.publish_rate is not None or flag(connection, "publish_rate").changed_by != "default"
    if settings.environment is Environment.production and not chosen:
        raise FlagError(
            "production must choose how fast it publishes: neither PUBLISH_RATE nor the flag is set",
            hint="set PUBLISH_RATE to publishes per second over all relays; 0 is no limit",
        )
