"""Every setting, typed, read once from the environment (and a local `.env`).

What must change while processes run is a flag in the database, not a setting; a setting that has a flag
beside it is only that flag's default on a new database.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PostgresDsn, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError

from sketchy_orchestration.errors import SketchyError


class SettingsError(SketchyError):
    """A setting is missing or wrong; the message names it, its value (unless secret) and what is allowed."""


class Environment(StrEnum):
    """Where this runs; staging and production refuse what is meant for a developer."""

    development = "development"
    staging = "staging"
    production = "production"


class AlertNotifier(StrEnum):
    """Who tells people of alerts: we do, or Prometheus' Alertmanager."""

    product = "product"
    prometheus = "prometheus"


class LogLevel(StrEnum):
    """The least severe level that is logged."""

    debug = "DEBUG"
    info = "INFO"
    warning = "WARNING"
    error = "ERROR"


def _secret(description: str) -> SecretStr | None:
    return Field(default=None, description=description)


class Settings(BaseSettings):
    """Names are those of the environment, in lower case; units are part of the description."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    environment: Environment = Field(
        default=Environment.development, description="Which environment this is; production refuses some jobs"
    )
    cell: str = Field(
        default="main",
        pattern=r"^[a-z0-9-]{1,32}$",
        description="Which of several databases this process serves, where they share one Dagster",
    )
    log_level: LogLevel = Field(default=LogLevel.info, description="The least severe level that is logged")

    sketchy_home: Path = Field(
        default=Path(".sketchy"), description="Folder of the embedded stack: data, logs, generated secrets"
    )
    postgres_version: Annotated[int, Field(ge=16, le=18)] = Field(
        default=18, description="Major version of the embedded Postgres: 18 or 16"
    )

    database_url: SecretStr | None = _secret(
        "Connection of the role that owns our schema (migrations). Unset: the embedded Postgres"
    )
    timer_database_url: SecretStr | None = _secret(
        "Connection of sketchy_timer. Unset: DATABASE_URL with SET ROLE sketchy_timer"
    )
    relay_database_url: SecretStr | None = _secret(
        "Connection of sketchy_relay. Unset: DATABASE_URL with SET ROLE sketchy_relay"
    )
    gateway_database_url: SecretStr | None = _secret(
        "Connection of sketchy_gateway. Unset: DATABASE_URL with SET ROLE sketchy_gateway"
    )
    operator_database_url: SecretStr | None = _secret(
        "Connection of sketchy_operator. Unset: DATABASE_URL with SET ROLE sketchy_operator"
    )

    pubnub_publish_key: SecretStr | None = _secret("PubNub publish key")
    pubnub_subscribe_key: SecretStr | None = _secret("PubNub subscribe key")
    pubnub_secret_key: SecretStr | None = _secret("PubNub secret key: signs publishes, grants tokens")
    pubnub_origin: str | None = Field(
        default=None,
        description="host[:port] of PubNub. Unset: the real service when keys are set, else the local server",
    )
    pubnub_ssl: bool = Field(default=True, description="TLS to PubNub; the local server has none")
    pubnub_request_timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        default=10.0, description="Seconds one publish may take before it counts as failed"
    )

    enable_timer_monitoring: bool = Field(
        default=True, description="Default of the flag timer_monitoring on a new database"
    )
    enable_pubnub_broadcasting: bool = Field(
        default=True, description="Default of the flag pubnub_broadcasting on a new database"
    )
    enable_grace_period: bool = Field(
        default=True, description="Default of the flag grace_period on a new database"
    )
    max_games_per_execution: Annotated[int, Field(ge=1, le=500)] = Field(
        default=500, description="Default of the flag max_games_per_sweep on a new database"
    )
    timer_concurrency_limit: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=100, description="Default of the flag fanout_concurrency on a new database"
    )
    publish_rate: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description=(
            "Default of the flag publish_rate on a new database: publishes per second in all, 0 is no limit."
            " Production must choose"
        ),
    )

    supabase_url: str | None = Field(default=None, description="Base URL of the Supabase project")
    supabase_service_role_key: SecretStr | None = _secret("Bearer token of the service role")
    supabase_service_role_key_previous: SecretStr | None = _secret(
        "A second bearer token of the service role, valid while the first is being rotated"
    )
    cron_secret: SecretStr | None = _secret("x-cron-secret of monitor-game-timers")
    cron_secret_previous: SecretStr | None = _secret(
        "A second x-cron-secret, valid while the first is being rotated"
    )
    supabase_jwt_secret: SecretStr | None = _secret("Secret of players' access tokens signed with HS256")
    supabase_jwt_secret_previous: SecretStr | None = _secret(
        "A second secret of players' access tokens, valid while the first is being rotated"
    )
    supabase_jwks_url: str | None = Field(
        default=None,
        description="Public keys of access tokens. Unset: SUPABASE_URL/auth/v1/.well-known/jwks.json",
    )
    supabase_jwt_audience: str = Field(
        default="authenticated", min_length=1, description="Audience of players' access tokens"
    )
    supabase_jwt_issuer: str | None = Field(
        default=None, description="Issuer of players' access tokens. Unset: SUPABASE_URL/auth/v1"
    )

    legacy_handler: str | None = Field(
        default=None,
        min_length=1,
        description="What moved games on before this system and still can, by name; set: an emergency stop"
        " hands the games in play to it",
    )

    service_levels: dict[str, float] = Field(
        default={},
        description='Contracts other than the default ones, as JSON: {"availability": 0.9995}',
    )
    alert_notifier: AlertNotifier = Field(
        default=AlertNotifier.product,
        description="Who notifies: product (SLACK and the like below) or prometheus (its Alertmanager)",
    )
    alert_slack_url: SecretStr | None = _secret("Where alerts for Slack go, as an apprise URL: slack://...")
    alert_email_url: SecretStr | None = _secret("Where alerts by mail go, as an apprise URL: mailtos://...")
    alert_pagerduty_url: SecretStr | None = _secret(
        "Where alerts that wake somebody go, as an apprise URL: pagerduty://..."
    )
    alert_runbook_url: str = Field(
        default="docs/runbooks", min_length=1, description="Where the runbooks are; alerts link there"
    )
    alert_rules: dict[str, dict[Literal["limit", "for_seconds"], float]] = Field(
        default={},
        description='Limits other than the default ones, as JSON: {"old_transaction": {"limit": 300}}',
    )
    alert_quiet_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=60.0, description="Seconds without a breach after which an alert is over"
    )
    alert_repeat_minutes: Annotated[float, Field(ge=1, le=10_080)] = Field(
        default=60.0,
        description="Minutes after which a critical alert nobody acknowledged is told again; others: 6 times",
    )
    alert_escalate_minutes: Annotated[float, Field(ge=0.1, le=10_080)] = Field(
        default=10.0,
        description="Minutes after which such an alert also goes to the next channel",
    )
    dead_man_url: SecretStr | None = _secret(
        "URL that is fetched every minute while all is well; who is behind it alerts when that stops"
    )
    region: str = Field(
        default="local",
        pattern=r"^[a-z0-9-]{1,32}$",
        description="Where this process runs, as canaries are labelled",
    )
    keys_rotated: dict[str, date] = Field(
        default={},
        description='When each key was last changed, as JSON: {"CRON_SECRET": "2026-01-31"}',
    )
    pubnub_monthly_limit: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Publishes a month the PubNub plan includes; 0 does not watch it"
    )

    advisories_url: str = Field(
        default="https://api.osv.dev/v1/querybatch",
        description="Where the security audit asks for known vulnerabilities (OSV); empty asks nobody",
    )

    gateway_host: str = Field(default="127.0.0.1", description="Address the gateway listens on")
    gateway_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8787, description="Port the gateway listens on; 0 takes any free one"
    )
    gateway_allowed_origins: str = Field(
        default="http://localhost:5173,http://127.0.0.1:5173",
        description="Web origins that may call the gateway from a browser, comma-separated",
    )
    gateway_trusted_proxies: str = Field(
        default="127.0.0.1",
        description="Addresses, comma-separated, whose X-Forwarded-For says who the caller is",
    )
    gateway_connections: Annotated[int, Field(ge=1, le=100)] = Field(
        default=4, description="Database connections of one gateway process"
    )
    gateway_connection_wait: Annotated[float, Field(gt=0, le=60)] = Field(
        default=1.0, description="Seconds a request waits for a database connection before 503"
    )
    gateway_in_flight: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=256, description="Requests at work at once; one more is answered 503"
    )
    gateway_request_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        default=10.0, description="Seconds one request may take before 503"
    )
    gateway_body_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        default=5.0, description="Seconds a request's body may take to arrive before 408"
    )
    gateway_body_bytes: Annotated[int, Field(ge=1024, le=1_048_576)] = Field(
        default=65_536, description="Largest request body; PubNub's own limit of 32 KiB is checked beside it"
    )
    gateway_delivery_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        default=5.0, description="Seconds broadcast-pubnub-event waits for the timetokens before 202"
    )
    gateway_token_minutes: Annotated[int, Field(ge=1, le=43_200)] = Field(
        default=60, description="Minutes a PubNub access token of a player is valid"
    )
    gateway_player_rate: str = Field(
        default="120/minute", description="Requests of one player; like 120/minute or 5/second"
    )
    gateway_service_rate: str = Field(default="2000/second", description="Requests with the service role key")
    gateway_cron_rate: str = Field(default="60/minute", description="Requests with the cron secret")
    gateway_stranger_rate: str = Field(
        default="60/minute", description="Requests without valid credentials from one address"
    )

    @field_validator(
        "database_url",
        "timer_database_url",
        "relay_database_url",
        "gateway_database_url",
        "operator_database_url",
    )
    @classmethod
    def _is_postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                PostgresDsn(value.get_secret_value())
            except ValidationError:
                raise ValueError("must be a URL like postgresql://user:password@host:5432/database") from None
        return value

    @field_validator("postgres_version")
    @classmethod
    def _is_embedded_version(cls, value: int) -> int:
        if value not in (16, 18):
            raise ValueError("must be 16 or 18, the versions that come embedded")
        return value


def _is_secret(name: str) -> bool:
    field = Settings.model_fields.get(name)
    return field is not None and "SecretStr" in str(field.annotation)


def explain(error: ValidationError, values: dict[str, object]) -> str:
    """One line per wrong setting: its name, what it was (unless secret), what is allowed."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        was = "(secret)" if _is_secret(name) else repr(values.get(name.upper(), values.get(name)))
        lines.append(f"{name.upper()} is {was}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        SettingsError: a value is wrong; the message names each one.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(explain(error, _given())) from None
    except UnreadableError as error:
        # Its message names the field and the source, and has no value in it.
        raise SettingsError(f"a setting is not valid JSON: {error}") from None


def _given() -> dict[str, object]:
    """What was set, by name in lower case: in the environment, else in `.env`."""
    return {**DotEnvSettingsSource(Settings).env_vars, **EnvSettingsSource(Settings).env_vars}
