"""What pg_dump says of a database's schema, without what changes from one dump to the next."""

from __future__ import annotations

import re
import subprocess

from sketchy_orchestration.local.postgres import RunningPostgres

# A random word that keeps a restored dump from leaving psql's restricted mode; new with every dump.
_RESTRICT = re.compile(r"^\\(un)?restrict ")


def schema_dump(postgres: RunningPostgres, url: str) -> list[str]:
    """The lines of `pg_dump --schema-only`, without comments and empty lines."""
    text = subprocess.run(
        [postgres.program("pg_dump"), "--schema-only", "--dbname", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [
        line for line in text.splitlines() if line and not line.startswith("--") and not _RESTRICT.match(line)
    ]
