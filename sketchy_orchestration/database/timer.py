"""The sweep and what goes with it, as role sketchy_timer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query


@dataclass(frozen=True, slots=True)
class Swept:
    """One sweep: how many games were due, moved on, given grace, locked by somebody, set aside.

    Attributes:
        more: the batch was full, or could not be finished in one transaction: sweep again at once.
        lateness_ms: one value per deadline met, measured just before the commit.
        next_in: seconds until the next deadline on the database's clock; None when there is none.
        seen: the snapshot of this sweep, for the next one's look for games that ended drawing early.
    """

    due: int
    moved: int
    extended: int
    locked: int
    set_aside: int
    switched_off: bool
    more: bool
    lateness_ms: list[float]
    next_in: float | None
    seen: str

    def and_then(
        self,
        *,
        moved: int = 0,
        extended: int = 0,
        set_aside: int = 0,
        lateness_ms: Sequence[float] = (),
        switched_off: bool = False,
    ) -> Swept:
        """This and what was done after it, in one."""
        return replace(
            self,
            moved=self.moved + moved,
            extended=self.extended + extended,
            set_aside=self.set_aside + set_aside,
            lateness_ms=[*self.lateness_ms, *lateness_ms],
            switched_off=self.switched_off or switched_off,
        )


def sweep(
    connection: Connection[Row],
    *,
    limit: int,
    lag: float = 0.0,
    window: float | None = None,
    candidates: Sequence[UUID] = (),
    look: bool = False,
    seen: str | None = None,
    only: Sequence[UUID] | None = None,
) -> Swept:
    """Move on every game that is due; commits by itself on an autocommit connection.

    Args:
        limit: most games in this statement.
        lag: seconds; take only what is overdue by this much.
        window: seconds to look back; None looks at everything.
        candidates: games that may end drawing early.
        look: look for such games too, in what `seen` did not see; without `seen` among all in drawing.
        only: no other games than these, and these even when they are set aside.
    """
    with connection.cursor(row_factory=class_row(Swept)) as cursor:
        cursor.execute(
            query("timer.sweep"),
            {
                "limit": limit,
                "candidates": list(candidates),
                "lag": timedelta(seconds=lag),
                "window": None if window is None else timedelta(seconds=window),
                "look": look,
                "seen": seen,
                "only": None if only is None else list(only),
            },
            prepare=True,
        )
        swept = cursor.fetchone()
    assert swept is not None, "a function without a set always answers one row"  # noqa: S101
    return swept


def due(connection: Connection[Row], *, lag: float, limit: int) -> list[UUID]:
    """Games that are due by `lag` seconds and not set aside, the longest due first."""
    rows = connection.execute(query("timer.due"), {"lag": timedelta(seconds=lag), "limit": limit})
    return [row[0] for row in rows]


def hanging(connection: Connection[Row], *, limit: int) -> list[UUID]:
    """Games set aside because they hang, and now to be tried again."""
    return [row[0] for row in connection.execute(query("timer.hanging"), {"limit": limit})]


def set_aside(connection: Connection[Row], game: UUID, error: str) -> None:
    """Set aside a game whose move was cut off by a time-out."""
    connection.execute(query("timer.set_aside"), {"game": game, "error": error})


@contextmanager
def statement_timeout(connection: Connection[Row], seconds: float, afterwards: float) -> Iterator[None]:
    """Bound each statement by `seconds`, then again by `afterwards`."""
    _bound(connection, seconds)
    try:
        yield
    finally:
        if not connection.closed:
            _bound(connection, afterwards)


def _bound(connection: Connection[Row], seconds: float) -> None:
    connection.execute(query("timer.statement_timeout"), {"milliseconds": str(round(seconds * 1000))})


def listen(connection: Connection[Row]) -> None:
    """Hear of deadlines set near, last drawings, and flags; plan each statement once."""
    connection.execute(query("timer.listen"))


def warm_up(connection: Connection[Row]) -> bool:
    """Plan what a sweep needs, so that the first is as quick as others; touches no game. False: it failed."""
    row = connection.execute(query("timer.warm_up")).fetchone()
    return bool(row and row[0])


def overdue(connection: Connection[Row], *, by: float) -> int:
    """Games whose deadline passed more than `by` seconds ago and that nobody paused or set aside."""
    row = connection.execute(query("timer.overdue"), {"by": timedelta(seconds=by)}).fetchone()
    return int(row[0]) if row else 0
