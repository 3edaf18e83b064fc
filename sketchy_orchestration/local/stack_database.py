"""The schema of the local stack's database: the application's tables, our migrations, who is enrolled."""

from __future__ import annotations

from sketchy_orchestration.database import connect as connecting
from sketchy_orchestration.database.connect import Address
from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.database.migration_plan import MigrationChangedError
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.local import application


def prepare(url: str, *, owned: bool, with_application: bool) -> int:
    """Bring the database's schema up to date.

    Args:
        owned: the database is embedded: everything in it is ours, and what it lacks is made.
        with_application: make the application's tables where they are missing in somebody's database too.

    Returns:
        How many migrations were applied.

    Raises:
        SketchyError: the application's tables are missing and nobody asked for them, or a migration fails.
    """
    made = application.install(url) if owned or with_application else False
    try:
        steps = migrate_up(url, told=lambda _: None)
    except MigrationChangedError as error:
        if not owned:
            raise
        raise MigrationChangedError(
            str(error), hint="or give the local stack's data up: `make clean` removes them and starts afresh"
        ) from None
    if owned or made:
        _enrol_everything(url)
    return len(steps)


def _enrol_everything(url: str) -> None:
    """On a database of ours every new game is ours, unless somebody has decided otherwise."""
    with connecting.connect_to(Address.of_url(url), application_name="sketchy up") as connection:
        connection.execute(query("local.enrol_everything"))
