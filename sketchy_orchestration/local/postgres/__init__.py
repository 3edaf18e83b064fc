"""An embedded Postgres: real binaries from a wheel, under a small supervisor of our own."""

from sketchy_orchestration.local.postgres.errors import (
    EmbeddedPostgresError,
    EmbeddedPostgresInUseError,
    OtherVersionError,
)
from sketchy_orchestration.local.postgres.server import EmbeddedPostgres, RunningPostgres

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "EmbeddedPostgresInUseError",
    "OtherVersionError",
    "RunningPostgres",
]
