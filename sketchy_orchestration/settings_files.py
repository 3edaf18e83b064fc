"""The settings as files for people: grouped, explained, with what differs between environments.

Everything is read from `Settings`; only the order, the headings and the values of an environment are here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from sketchy_orchestration.settings import Environment, Settings


@dataclass(frozen=True)
class Group:
    """Settings that are read together.

    Attributes:
        prefixes: beginnings of the names that belong here; the first group that has one takes the setting.
    """

    title: str
    about: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """One setting, as documents show it.

    Attributes:
        name: of the environment variable. default: as text, "" for none. secret: never shown.
        allowed: type and bounds in words.
    """

    name: str
    default: str
    description: str
    allowed: str
    secret: bool


GROUPS = (
    Group(
        "Where this is",
        "What this installation is, and what it lives beside.",
        ("environment", "cell", "log_level", "region", "legacy_"),
    ),
    Group(
        "Database",
        "Sessions, not a pooler in transaction mode (the gateway alone works behind one).\n"
        "A running part needs its own URL only; DATABASE_URL, of the owner, is for `sketchy migrate`.",
        ("database_url", "timer_database", "relay_database", "gateway_database", "operator_database"),
    ),
    Group("PubNub", "The keyset events are published with.", ("pubnub_",)),
    Group(
        "Defaults of flags",
        "Read once, by `sketchy migrate up` on a new database; `sketchy flags set` changes the flag later.",
        ("enable_", "max_games", "timer_concurrency", "publish_rate"),
    ),
    Group(
        "Who may call the gateway",
        "Each secret may have a second one beside it while it is rotated.",
        ("supabase_", "cron_"),
    ),
    Group("Gateway", "Addresses, bounds and rates of the HTTP functions.", ("gateway_",)),
    Group(
        "Watching",
        "Service levels, alerts and what the security audit watches.",
        ("service_levels", "alert_", "dead_man", "keys_rotated", "advisories"),
    ),
    Group(
        "Embedded stack", "Used on a developer's machine and by tests only.", ("sketchy_home", "postgres_")
    ),
)

_FILL_IN = ""
_POSTGRES = "postgresql://{login}:PASSWORD@db.example.com:5432/postgres"
_SERVED: dict[str, str] = {
    "timer_database_url": _POSTGRES.format(login="timer_a"),
    "relay_database_url": _POSTGRES.format(login="relay_a"),
    "operator_database_url": _POSTGRES.format(login="operator_a"),
    "gateway_database_url": _POSTGRES.format(login="gateway_a"),
    "pubnub_publish_key": _FILL_IN,
    "pubnub_subscribe_key": _FILL_IN,
    "pubnub_secret_key": _FILL_IN,
    "pubnub_monthly_limit": "50000000",
    "supabase_url": "https://PROJECT.supabase.co",
    "supabase_service_role_key": _FILL_IN,
    "cron_secret": _FILL_IN,
    "alert_slack_url": _FILL_IN,
    "alert_email_url": _FILL_IN,
    "dead_man_url": _FILL_IN,
    "alert_runbook_url": "https://docs.example.com/runbooks",
    "keys_rotated": '{"CRON_SECRET": "2026-01-31", "SUPABASE_SERVICE_ROLE_KEY": "2026-01-31"}',
}
VALUES: Mapping[Environment, Mapping[str, str]] = {
    Environment.development: {"environment": "development", "log_level": "DEBUG"},
    Environment.staging: {
        **_SERVED,
        "environment": "staging",
        "region": "staging",
        "publish_rate": "100",
        "gateway_allowed_origins": "https://staging.example.com",
    },
    Environment.production: {
        **_SERVED,
        "environment": "production",
        "region": "eu-central-1",
        "publish_rate": "100",
        "alert_pagerduty_url": _FILL_IN,
        "gateway_allowed_origins": "https://play.example.com",
    },
}
"""What an environment sets, as the file says it; empty where only its owner knows the value.

Empty is unset: what is forgotten is missed at the start, and no placeholder is taken for a key.
"""

_DAGSTER = """
## Dagster
# Read by Dagster's own processes, through dagster.yaml and workspace.yaml.

# Where Dagster keeps its runs: a role of its own whose search_path is the schema dagster, and this driver
SKETCHY_DAGSTER_STORAGE_URL=postgresql+psycopg2://dagster_a:PASSWORD@db.example.com:5432/postgres

# Where the code server listens
SKETCHY_CODE_SERVER_HOST=127.0.0.1
"""


def grouped() -> Iterator[tuple[Group, list[Setting]]]:
    """Every setting once, under its heading."""
    left = dict(Settings.model_fields)
    for group in GROUPS:
        names = [name for name in left if name.startswith(group.prefixes)]
        yield group, [_described(name, left.pop(name)) for name in names]


def environment_file(environment: Environment) -> str:
    """A file of settings: what this environment sets, and every other setting with its default as a comment.

    Lines are `NAME=value` without quotes, which `.env` files, systemd, Docker and Kubernetes read alike.
    """
    values = VALUES[environment]
    lines = [
        f"# Settings of {environment}, made by `sketchy settings file {environment}`: every one is here.",
        "# Lines that begin with #NAME= show a default. Fill in what is empty; replace what is an example.",
    ]
    for group, settings in grouped():
        lines += ["", f"## {group.title}", *(f"# {line}" for line in group.about.splitlines())]
        for setting in settings:
            lines += ["", f"# {setting.description}"]
            lines += [f"# {setting.allowed}"] if setting.allowed else []
            given = values.get(setting.name.lower())
            lines.append(f"#{setting.name}={setting.default}" if given is None else f"{setting.name}={given}")
    served = environment is not Environment.development
    return "\n".join(lines) + "\n" + (_DAGSTER if served else "")


def _described(name: str, field: FieldInfo) -> Setting:
    return Setting(
        name.upper(),
        "" if field.default is None else _text(field.default),
        field.description or "",
        _allowed(field),
        SecretStr.__name__ in str(field.annotation),
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, default=str) if isinstance(value, dict) else str(value)


_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def _allowed(field: FieldInfo) -> str:
    annotation = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return "One of: " + ", ".join(member.value for member in annotation)
    if annotation is bool:
        return "true or false"
    said = [
        f"{words} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, words in _BOUNDS.items()
        if isinstance(getattr(bound, name, None), int | float)
    ]
    kind = "A whole number" if annotation is int else "A number" if annotation is float else None
    return " ".join([kind, ", ".join(said)]).strip() if kind else ""
