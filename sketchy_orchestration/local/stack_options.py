"""What `sketchy up` is asked for, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Environment, Settings


class StackError(SketchyError):
    """The local stack cannot be started as asked."""


@dataclass(frozen=True)
class StackOptions:
    """What `sketchy up` was asked for.

    Attributes:
        games: how many games are played at any time; None: 50 on the embedded database, none on another.
        dagster_port, pubnub_port, postgres_port, gateway_port: wanted ports; busy ones are replaced. Without
            a gateway_port that of the settings is wanted.
        services_only: Postgres and PubNub alone, for a Dagster that somebody else runs (`on_demand`).
        with_application: make the application's tables where a given database lacks them; development only.
        enforce_access: the local PubNub lets nobody in without a token or a signature.
    """

    games: int | None = None
    dagster_port: int = 3000
    pubnub_port: int = 18090
    postgres_port: int | None = None
    gateway_port: int | None = None
    services_only: bool = False
    with_application: bool = False
    enforce_access: bool = False

    def check(self, settings: Settings) -> None:
        """Refuse what these settings do not allow.

        Raises:
            StackError: naming the option.
        """
        if self.games and settings.environment is Environment.production:
            raise StackError(
                "ENVIRONMENT is production and --games asks for invented games: leave --games out"
            )
        if self.with_application and settings.environment is not Environment.development:
            raise StackError(
                f"ENVIRONMENT is {settings.environment} and --with-application makes tables for trying"
                " things out: it is for development only, leave it out"
            )
        if self.enforce_access and settings.pubnub_publish_key is not None:
            raise StackError(
                "--enforce-access is for the local PubNub, and a keyset of yours is set: switch Access"
                " Manager on in PubNub's admin portal"
            )
