"""What jobs and sensors reach the outside with. Secrets come from the environment and never show.

A resource holds only what the environment gives; what is missing is the local stack's business, which is
started, or joined, when a resource is first used.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field, ValidationError

from sketchy_orchestration.settings import Environment, Settings, SettingsError, explain


def _secret(description: str) -> Any:
    return Field(default=None, description=description, repr=False)


class _FromEnvironment(dg.ConfigurableResource[None]):
    """Fields are settings by name; none of them shows in `repr`."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from ((name, "***") for name in self._given())

    def _given(self) -> dict[str, object]:
        fields = type(self).model_fields
        return {name: value for name in fields if (value := getattr(self, name)) is not None}

    def _over(self, base: Mapping[str, object]) -> Settings:
        values = {**base, **self._given()}
        try:
            return Settings(**values)  # type: ignore[arg-type]  # validated by the call
        except ValidationError as error:
            raise SettingsError(explain(error, values)) from None


class PostgresResource(_FromEnvironment):
    """The database: the application's tables and ours."""

    database_url: str | None = _secret("Connection of the owner of our schema; other roles are taken from it")
    timer_database_url: str | None = _secret("Connection of sketchy_timer, where it has a login of its own")
    relay_database_url: str | None = _secret("Connection of sketchy_relay, where it has a login of its own")
    operator_database_url: str | None = _secret(
        "Connection of sketchy_operator, where it has a login of its own"
    )

    def settings(self) -> Settings:
        """The settings of this process with these connections.

        Without any, the local stack is joined, and started if need be.

        Raises:
            SketchyError: a setting is wrong, or the local stack does not start.
        """
        settings = self._over({})
        if settings.database_url is not None or settings.timer_database_url is not None:
            return settings
        return self._over(_local(settings))


class PubNubResource(_FromEnvironment):
    """The PubNub keyset events are published with."""

    pubnub_publish_key: str | None = _secret("Publish key")
    pubnub_subscribe_key: str | None = _secret("Subscribe key")
    pubnub_secret_key: str | None = _secret("Secret key: signs publishes")
    pubnub_origin: str | None = Field(default=None, description="host[:port]; unset: the real service")

    def settings(self, postgres: PostgresResource) -> Settings:
        """The settings of this process with this keyset and these connections.

        Without keys, the local PubNub is joined, and started if need be.

        Raises:
            SketchyError: a setting is wrong, or the local stack does not start.
        """
        known = postgres.settings().model_dump(exclude_unset=True)
        settings = self._over(known)
        if settings.pubnub_publish_key is not None:
            return settings
        return self._over({**_local(settings), **known})


def _local(settings: Settings) -> dict[str, object]:
    """What the local stack says to whoever joins it, by setting."""
    if settings.environment is Environment.production:
        raise SettingsError(
            "ENVIRONMENT is production, where nothing is invented: set the database URLs and the PubNub keys"
        )
    from sketchy_orchestration.local.on_demand import services

    return {name.lower(): value for name, value in services(settings).items()}


def _from_environment(resource: type[_FromEnvironment]) -> dict[str, Any]:
    # A variable that is unset is left out: Dagster refuses to resolve it, and the local stack stands in.
    names = ((name, name.upper()) for name in resource.model_fields)
    return {name: dg.EnvVar(variable) for name, variable in names if os.environ.get(variable)}


def resources() -> dict[str, _FromEnvironment]:
    """The resources by the names that jobs and sensors ask for."""
    return {
        "postgres": PostgresResource(**_from_environment(PostgresResource)),
        "pubnub": PubNubResource(**_from_environment(PubNubResource)),
    }
