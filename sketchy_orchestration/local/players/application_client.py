"""The application as its database sees it: statements as `authenticated` or `service_role`, with claims."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from sketchy_orchestration.database.connect import Address
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError

Values = Mapping[str, object]
Rows = list[tuple[Any, ...]]

_RETRY_PAUSE_S = 0.25
_CLOCK_SAMPLES = 5


class StatementFailedError(SketchyError):
    """The database refused a statement of the application that must not fail."""


class PlayersNotAdmittedError(SketchyError):
    """The database cannot be played on: no tables of the application, or roles that may not be taken."""


@dataclass(frozen=True, slots=True)
class Done:
    """A committed act: sent and acknowledged at (s since the epoch, database clock), and its rows."""

    began: float
    done: float
    request_id: str
    rows: Rows


class ApplicationClient:
    """A few connections on which any number of players act in turn.

    A connection that breaks is replaced and the act tried again, for `patience_s`; every act is written
    so that doing it twice is doing it once.
    """

    def __init__(self, url: str, connections: int = 4, patience_s: float = 60.0) -> None:
        self._address = Address.of_url(url)
        self._patience_s = patience_s
        self._offset = 0.0
        self.clock_error_s = 0.0
        """How far `now()` may be from the database's clock."""
        self.retries = 0
        self._pool = AsyncConnectionPool(
            self._address.conninfo("sketchy play"),
            min_size=min(2, connections),
            max_size=connections,
            kwargs={"autocommit": True},
            open=False,
            reconnect_timeout=patience_s,
        )

    async def __aenter__(self) -> Self:
        # The pool would only say that it waited: ask once ourselves, for an error that says why.
        try:
            first = await psycopg.AsyncConnection.connect(self._address.conninfo("sketchy play"))
        except psycopg.OperationalError as error:
            raise PlayersNotAdmittedError(
                f"no players at {self._address}: {self._address.hide(str(error))}"
            ) from None
        await first.close()
        await self._pool.open(wait=True, timeout=self._patience_s)
        await self.set_clock()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    def now(self) -> float:
        """The database's clock, s since the epoch, as far as it is known here."""
        return time.time() + self._offset

    def local(self, moment: float) -> float:
        """A moment of the database's clock on this machine's."""
        return moment - self._offset

    async def set_clock(self) -> None:
        """Compare the clocks; the quickest of a few answers is the one to believe."""
        best: tuple[float, float] | None = None
        async with self._pool.connection() as conn:
            for _ in range(_CLOCK_SAMPLES):
                before = time.time()
                row = await (await conn.execute(query("play.clock"))).fetchone()
                after = time.time()
                if row is not None and (best is None or after - before < best[0]):
                    best = (after - before, float(row[0]) - (before + after) / 2)
        if best is not None:
            self._offset, self.clock_error_s = best[1], best[0] / 2

    async def ask(self, name: str, values: Values | None = None) -> Rows:
        """Rows of a query of `sql/queries/play.sql`, as the connecting role, which owns the tables."""
        return (await self._patiently(name, values or {}, None, None)).rows

    async def as_user(self, user_id: str, name: str, values: Values) -> Done:
        """One statement as `authenticated` with the user's claims, in a transaction of its own."""
        return await self._patiently(name, values, "authenticated", user_id)

    async def as_service(self, name: str, values: Values) -> Done:
        """One statement as `service_role`."""
        return await self._patiently(name, values, "service_role", None)

    async def sign_up(self, names: Mapping[str, str]) -> None:
        """Make users of these ids and names where they do not exist."""
        ids, usernames = list(names), list(names.values())
        emails = [f"{name}@players.example" for name in usernames]
        try:
            await self.as_service("sign_up_auth", {"ids": ids, "emails": emails})
            await self.as_service("sign_up", {"ids": ids, "emails": emails, "names": usernames})
        except StatementFailedError as error:
            raise PlayersNotAdmittedError(
                f"players cannot sign up at {self._address}: {error}; the database needs the application's"
                " tables, and DATABASE_URL a user who may take the roles authenticated and service_role"
            ) from None

    async def _patiently(self, name: str, values: Values, role: str | None, user: str | None) -> Done:
        request_id = f"play-{uuid4()}"
        give_up = time.monotonic() + self._patience_s
        began: float | None = None
        while True:
            try:
                async with self._pool.connection(timeout=self._patience_s) as conn:
                    # Waiting for one of our few connections is no part of the act.
                    began = self.now() if began is None else began
                    async with self._as(conn, role, user, request_id):
                        cursor = await conn.execute(query(f"play.{name}"), values)
                        rows = await cursor.fetchall() if cursor.description is not None else []
                return Done(began, self.now(), request_id, rows)
            except (psycopg.OperationalError, PoolTimeout) as error:
                # Lost connections and a server that is starting; anything else is the database's no.
                lost = isinstance(error, PoolTimeout) or error.sqlstate is None or error.sqlstate[:3] == "57P"
                if not lost or time.monotonic() > give_up:
                    raise StatementFailedError(f"{name}: {_said(error)}") from None
                self.retries += 1
                await asyncio.sleep(_RETRY_PAUSE_S)
            except psycopg.Error as error:
                raise StatementFailedError(f"{name}: {_said(error)}") from None

    @asynccontextmanager
    async def _as(
        self, conn: psycopg.AsyncConnection[Any], role: str | None, user: str | None, request_id: str
    ) -> AsyncIterator[None]:
        if role is None:
            yield
            return
        async with conn.transaction():
            claims = {"role": role} if user is None else {"role": role, "sub": user}
            await conn.execute(
                query("play.act"),
                {
                    "role": role,
                    "claims": json.dumps(claims),
                    "headers": json.dumps({"x-request-id": request_id}, separators=(",", ":")),
                },
            )
            yield


def _said(error: Exception) -> str:
    diag = getattr(error, "diag", None)
    text = (diag.message_primary if diag is not None else None) or str(error)
    state = getattr(error, "sqlstate", None)
    return " ".join(text.split()) + (f" ({state})" if state else "")


def names_of(count: int, prefix: str = "player") -> Sequence[str]:
    """`count` usernames in order."""
    return [f"{prefix}-{number:04d}" for number in range(1, count + 1)]
