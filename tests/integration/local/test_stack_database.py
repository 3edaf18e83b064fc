"""The schema of the local stack's database, brought up to date or refused."""

from __future__ import annotations

import psycopg
import pytest

from sketchy_orchestration.database.migration_plan import MigrationChangedError
from sketchy_orchestration.local.stack_database import prepare


def _edit_a_migration(url: str) -> None:
    """As if the file had been edited since: its checksum is another one than was applied."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("update orchestration.migrations set checksum = repeat('0', 64) where number = 1")


@pytest.mark.parametrize("owned", [True, False])
def test_an_edited_migration_over_data_of_ours_says_how_to_start_afresh(
    database_url: str, owned: bool
) -> None:
    assert prepare(database_url, owned=owned, with_application=False) == 0
    _edit_a_migration(database_url)
    with pytest.raises(MigrationChangedError, match="restore the file") as caught:
        prepare(database_url, owned=owned, with_application=False)
    # Advice to throw data away has no place where the data are somebody's.
    assert ("`make clean`" in caught.value.in_one_line()) is owned
