"""A Postgres for the recovery drill: embedded, in a folder of its own, gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sketchy_orchestration.local.postgres import EmbeddedPostgres, RunningPostgres


@contextmanager
def scratch_server() -> Iterator[RunningPostgres]:
    """An empty server of the newest embedded version: it restores dumps of any older one."""
    with tempfile.TemporaryDirectory(prefix="sketchy-drill-") as folder:
        # As root, Postgres runs as an ordinary account, which must be able to come here.
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "home") as running:
            yield running
