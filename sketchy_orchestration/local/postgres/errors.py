"""What can go wrong with an embedded Postgres."""

from __future__ import annotations

from sketchy_orchestration.errors import SketchyError


class EmbeddedPostgresError(SketchyError):
    """The embedded Postgres could not be made, started or used."""


class EmbeddedPostgresInUseError(EmbeddedPostgresError):
    """Another process runs the Postgres of this home folder."""


class OtherVersionError(EmbeddedPostgresError):
    """The data folder was made by another major version."""
