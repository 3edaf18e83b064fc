"""The gateway's pool and what it asks, as role sketchy_gateway; a transaction-mode pooler will do."""

from __future__ import annotations

import asyncio
import json
import select
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import psycopg
import structlog
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from sketchy_orchestration.database.connect import Address, Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError

log = structlog.get_logger(__name__)

Connection = psycopg.AsyncConnection[Row]
Wanted = TypeVar("Wanted")

LIFETIME = 1800.0
"""Seconds after which a connection is replaced, so that none grows old with a server's settings or memory."""

_RETRY_PAUSE = 0.5
_OPENING = 30.0
_LOOK_AT_FLAG = 0.5
# When the flag takes connections away, an idle one goes this often (s).
_SHRINK = 0.2
_NOBODY = UUID(int=0)


class DatabaseBusyError(SketchyError):
    """Every connection was in use for as long as a request may wait."""


class DatabaseAwayError(SketchyError):
    """The database does not answer, or ended the statement."""


class ConnectionLostError(DatabaseAwayError):
    """The connection broke under a statement, which may or may not have been done."""


class ValueRefusedError(SketchyError):
    """The database cannot store a value, such as text that its encoding does not have."""


@dataclass(frozen=True, slots=True)
class _One:
    value: object


@dataclass(frozen=True, slots=True)
class GameTimer:
    """A game's clock. Durations in whole seconds; `phase` is None when there is no such game."""

    phase: str | None
    plays: bool | None
    time_remaining: int | None
    phase_duration: int | None
    phase_expires_at: datetime | None
    server_time: datetime


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """An event in the outbox; `occurred_at` on the database's clock."""

    outbox_id: int
    event_id: str
    occurred_at: datetime
    channels: list[str]


@dataclass(frozen=True, slots=True)
class TimerPass:
    """One pass of the timer. Times in milliseconds, on the database's clock."""

    skipped: bool
    switched_off: bool
    processed: int
    errors: int
    lock_ms: float
    query_ms: float
    processing_ms: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event: delivered, dead or expired; timetokens by channel."""

    outbox_id: int
    outcome: str
    attempts: int
    timetokens: dict[str, object]
    reason: str | None


@dataclass(frozen=True, slots=True)
class GameEvent:
    """A sequenced event; `state` is waiting, delivered, dead or expired."""

    seq: int
    event_id: str
    type: str
    user_id: str
    data: dict[str, object]
    request_id: str
    occurred_at: datetime
    state: str
    after_seq: int | None
    timetokens: dict[str, object]


class GatewayDatabase:
    """A bounded pool that opens itself in the background and never makes a caller wait longer than told.

    Args:
        connections: opened at the start and kept; the budget of one process.
        wait: seconds a caller waits for a connection.
        waiting: callers that may wait at once; one more is refused at once.
        statement_seconds: a statement longer than this is ended by the server.
    """

    def __init__(
        self,
        at: Address,
        *,
        connections: int = 4,
        wait: float = 1.0,
        waiting: int = 256,
        statement_seconds: float = 10.0,
    ) -> None:
        self._at = at
        self._connections = connections
        self._wait = wait
        self._waiting = waiting
        self._limits = {
            "statement_timeout": f"{round(statement_seconds * 1000)}ms",
            "lock_timeout": f"{round(min(statement_seconds, 2.0) * 1000)}ms",
        }
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._opening: asyncio.Task[None] | None = None
        self.pooled = False
        """Behind a pooler: the role and the limits are set in each transaction."""
        self.warm = False
        """All connections are open and have run what players ask most."""

    def open(self) -> None:
        """Begin to open the pool; goes on trying until it works or `close` is called."""
        self._opening = asyncio.create_task(self._open(), name="gateway database")

    async def close(self) -> None:
        """End every connection."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        self.warm = False
        if self._pool is not None:
            await self._pool.close()

    async def _open(self) -> None:
        said = ""
        while True:
            try:
                self.pooled = await self._is_pooled()
                break
            except psycopg.Error as error:
                if (why := self._at.hide(str(error))) != said:
                    said = why
                    log.warning("gateway_database_away", at=str(self._at), why=why)
            await asyncio.sleep(_RETRY_PAUSE)
        while not self.warm:
            self._pool = self._new_pool()
            await self._pool.open()
            try:
                await self._pool.wait(timeout=_OPENING)
                self.warm = True
            except PoolTimeout:  # the pool has closed itself: another one
                log.warning("gateway_database_away", at=str(self._at), why="connections did not open in time")
        log.info("gateway_database_warm", connections=self._connections, pooled=self.pooled)
        await self._follow_flag()

    async def _follow_flag(self) -> None:
        """The pool has the size that the flag gateway_connections says, while it is on, within a second."""
        as_set = self._connections
        while self._pool is not None:
            await asyncio.sleep(_LOOK_AT_FLAG)
            try:
                (found,) = await self._rows(_One, "connections_wanted", {})
            except (SketchyError, psycopg.Error):
                continue
            wanted = as_set if found.value is None else int(str(found.value))
            if wanted != self._connections:
                await self._pool.resize(wanted, wanted)
                log.info("gateway_connections_changed", before=self._connections, now=wanted)
                self._connections = wanted

    def _new_pool(self) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool(
            self._at.conninfo("sketchy gateway", role_at_start=not self.pooled),
            connection_class=psycopg.AsyncConnection[Row],
            min_size=self._connections,
            max_size=self._connections,
            max_waiting=self._waiting,
            timeout=self._wait,
            max_lifetime=LIFETIME,
            max_idle=_SHRINK,
            # A pooler may hand the next transaction to a server that never saw our prepared statements.
            kwargs={"autocommit": True, "prepare_threshold": None if self.pooled else 1},
            configure=self._configure,
            name="gateway",
            open=False,
        )

    async def _is_pooled(self) -> bool:
        plain = self._at.conninfo("sketchy gateway", role_at_start=False)
        async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as first:
            row = await (await first.execute(query("gateway.backend"))).fetchone()
            return row is not None and row[0] != first.info.backend_pid

    async def _configure(self, connection: Connection) -> None:
        if not self.pooled:
            await connection.execute(query("gateway.begin_session"), self._limits)
        # The first call of a function in a session plans its statements: no player should wait for that.
        nobody = {"game_id": _NOBODY, "user_id": _NOBODY}
        async with self._entered(connection):
            row = await (await connection.execute(query("gateway.ready"))).fetchone()
            if row and row[0]:
                for _ in range(2):
                    await connection.execute(query("gateway.game_timer"), nobody)

    @asynccontextmanager
    async def _entered(self, connection: Connection) -> AsyncIterator[None]:
        if not self.pooled:
            yield
            return
        async with connection.transaction():
            await connection.execute(query("gateway.enter"), {**self._limits, "role": self._at.role})
            yield

    async def _live_connection(self, pool: AsyncConnectionPool[Connection]) -> Connection:
        # The pool's own check pauses for a second when it meets two dead connections in a row.
        while True:
            connection = await pool.getconn()
            if not await _has_hung_up(connection):
                return connection
            await connection.close()
            await pool.putconn(connection)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self._pool is None:
            raise DatabaseAwayError("the database has not answered yet")
        connection: Connection | None = None
        try:
            connection = await self._live_connection(self._pool)
            try:
                async with self._entered(connection):
                    yield connection
            finally:
                await self._pool.putconn(connection)
        except (PoolTimeout, TooManyRequests):
            raise DatabaseBusyError("every database connection is in use") from None
        except PoolClosed:
            raise DatabaseAwayError("the gateway is stopping") from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("gateway_database_failed", why=self._at.hide(str(error)), sqlstate=error.sqlstate)
            lost = connection is not None and connection.closed
            raise (ConnectionLostError if lost else DatabaseAwayError)(
                "the database does not answer"
            ) from None
        except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
            log.error("gateway_schema_missing", sqlstate=error.sqlstate, todo="sketchy migrate up")
            raise DatabaseAwayError("the migrations are not applied") from None
        except psycopg.DataError as error:
            log.info("gateway_value_refused", sqlstate=error.sqlstate)
            raise ValueRefusedError("a value cannot be stored") from None

    async def _rows(
        self, kind: type[Wanted], name: str, values: Mapping[str, object], *, repeatable: bool = True
    ) -> list[Wanted]:
        """Rows of a query; asked once more when the connection broke and asking twice harms nobody."""
        try:
            return await self._ask(kind, name, values)
        except ConnectionLostError:
            if not repeatable:
                raise
            return await self._ask(kind, name, values)

    async def _ask(self, kind: type[Wanted], name: str, values: Mapping[str, object]) -> list[Wanted]:
        async with self._connection() as connection:
            cursor = await connection.execute(query(f"gateway.{name}"), values)
            # The columns of each query stand in the order of the fields.
            return [kind(*row) for row in await cursor.fetchall()]

    async def installed(self) -> bool:
        """Whether the schema has what the gateway calls."""
        return (await self._rows(_One, "ready", {}))[0].value is True

    async def game_timer(self, game_id: UUID, user_id: UUID) -> GameTimer:
        """The clock of a game, and whether the user plays in it."""
        return (await self._rows(GameTimer, "game_timer", {"game_id": game_id, "user_id": user_id}))[0]

    async def games_of_player(self, user_id: UUID, limit: int) -> list[str]:
        """Ids of the games a player is in that are not over, the newest first."""
        rows = await self._rows(_One, "games_of_player", {"user_id": user_id, "limit": limit})
        return [str(row.value) for row in rows]

    async def accept_event(
        self,
        *,
        game_id: UUID | None,
        subject: str,
        kind: str,
        user_id: str,
        data: Mapping[str, object],
        request_id: str,
    ) -> AcceptedEvent | None:
        """Put an event into the outbox; None when there is no such game.

        Args:
            game_id: None for an event of type test.
            subject: what names the channel of an event of type test.
        """
        values = {
            "game_id": game_id,
            "subject": subject,
            "type": kind,
            "user_id": user_id,
            "data": Jsonb(data, dumps=_dumps),
            "request_id": request_id,
        }
        found = await self._rows(AcceptedEvent, "accept_event", values, repeatable=False)
        return found[0] if found else None

    async def timer_pass(self, request_id: str) -> TimerPass:
        """One pass of the timer, unless another one asked for over HTTP is at work."""
        return (await self._rows(TimerPass, "timer_pass", {"request_id": request_id}))[0]

    async def outcomes(self, outbox_ids: Sequence[int], since: datetime) -> list[Outcome]:
        """What is known of these events, none of which occurred before `since`."""
        return await self._rows(Outcome, "outcomes", {"outbox_ids": list(outbox_ids), "since": since})

    async def events_after(self, game_id: UUID, after: int, limit: int) -> list[GameEvent]:
        """A game's events with a `seq` above `after`, in order: up to `limit` + 1, if there are more."""
        values = {"game_id": game_id, "after": after, "limit": limit}
        return await self._rows(GameEvent, "events_after", values)

    async def last_seq(self, game_id: UUID) -> int:
        """The highest `seq` the game has; 0 when it has none."""
        row = (await self._rows(_One, "last_seq", {"game_id": game_id}))[0]
        return row.value if isinstance(row.value, int) else 0

    def stats(self) -> dict[str, int]:
        """How many connections there are, are idle, and how many callers wait."""
        found = self._pool.get_stats() if self._pool is not None else {}
        return {
            "size": found.get("pool_size", 0),
            "idle": found.get("pool_available", 0),
            "waiting": found.get("requests_waiting", 0),
            "limit": self._connections,
        }


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False)


async def _has_hung_up(connection: Connection) -> bool:
    """Whether the server has left; an idle connection has nothing to say unless it is dying."""
    watched = select.poll()
    watched.register(connection.fileno(), select.POLLIN)
    if not watched.poll(0):
        return False
    try:
        await AsyncConnectionPool.check_connection(connection)
    except psycopg.Error:
        return True
    return False
