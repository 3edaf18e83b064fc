"""Two databases that a relay may have, behind one face: Postgres, and the simulation's in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, LiteralString, Protocol, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from sketchy_orchestration.database import backlog, relay
from sketchy_orchestration.database.connect import Role, Row, connect_async
from sketchy_orchestration.domain.circuit import Circuit
from sketchy_orchestration.domain.lanes import lane_of
from sketchy_orchestration.domain.phases import Phase
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import write_event
from tests.simulation import database as simulated
from tests.simulation.kernel import Kernel

T = TypeVar("T")


class GoneError(Exception):
    """The session is."""


class FencedError(Exception):
    """The lane has another holder by now."""


@dataclass(frozen=True)
class Waits:
    """An event that waits: `sent` is its game's last place known as delivered, `age` whole seconds."""

    event: str
    seq: int
    sent: int
    type: str
    age: int


@dataclass(frozen=True)
class Place:
    """An event numbered in an epoch."""

    event: str
    game: UUID
    seq: int
    epoch: int


class Rig(Protocol):
    """A database, and what happens to it. Sessions are its own business."""

    async def session(self) -> Any:
        """A lease session."""

    async def falls_silent(self, session: Any) -> None:
        """Until the database has ended the session."""

    async def crash(self) -> None:
        """Every session and open transaction is gone; it is back when this returns."""

    async def take(self, session: Any, lane: int) -> int | None:
        """The new epoch; None while somebody holds it."""

    async def give_up(self, session: Any, lane: int, epoch: int) -> None: ...

    async def number(self, session: Any, lane: int, epoch: int) -> list[str]:
        """The events numbered. Raises GoneError, FencedError, relay.StoppedError."""

    async def load(self, session: Any, lane: int) -> list[Waits]: ...

    async def acknowledge(
        self, session: Any, lane: int, epoch: int, found: Sequence[tuple[str, str]]
    ) -> None:
        """Outcomes of events. Raises GoneError, FencedError."""

    async def change_circuit(self, session: Any, changed: Circuit) -> bool: ...

    async def circuit(self, session: Any) -> Circuit: ...

    def write(self, game: UUID, *types: str, age: float = 0.0) -> list[str]:
        """Events in one transaction."""

    def open(self, game: UUID, type_: str) -> Callable[[bool], None]:
        """An event in a transaction that stays open until this is told whether to commit."""

    def broadcast(self, on: bool) -> None: ...

    def stop(self) -> None: ...

    def lift(self) -> None: ...

    def places(self) -> list[Place]: ...

    def outcomes(self) -> list[tuple[str, str]]: ...


@dataclass
class MemoryRig:
    """The simulation's."""

    database: simulated.Database = field(
        default_factory=lambda: simulated.Database(Kernel(1000.0), Random(1))
    )
    _sessions: list[simulated.Session] = field(default_factory=list)

    async def session(self) -> simulated.Session:
        self._sessions.append(self.database.session())
        return self._sessions[-1]

    async def falls_silent(self, session: simulated.Session) -> None:
        database = self.database
        others = [each for each in self._sessions if each is not session and database.lives(each)]
        database.kernel.now += simulated.IDLE_SESSION_TIMEOUT + 0.001
        for each in others:
            each.heard_at = database.kernel.now

    async def crash(self) -> None:
        self.database.crash(0.1)
        self.database.kernel.run(self.database.kernel.now + 0.1)

    async def take(self, session: simulated.Session, lane: int) -> int | None:
        return _told(lambda: self.database.take(session, lane))

    async def give_up(self, session: simulated.Session, lane: int, epoch: int) -> None:  # noqa: ARG002
        _told(lambda: self.database.give_up(session, lane))

    async def number(self, session: simulated.Session, lane: int, epoch: int) -> list[str]:
        return [one.event_id for one in _told(lambda: self.database.number(session, lane, epoch))]

    async def load(self, session: simulated.Session, lane: int) -> list[Waits]:
        found = []
        for event, seq in _told(lambda: self.database.load(session, lane)):
            row = self.database.outbox[event]
            sent = self.database.last_sent[row.game.game_id]
            found.append(Waits(event, seq, sent, row.type, round(self.database.kernel.now - row.at)))
        return found

    async def acknowledge(
        self, session: simulated.Session, lane: int, epoch: int, found: Sequence[tuple[str, str]]
    ) -> None:
        told = [(event, outcome, "17" if outcome == "delivered" else None) for event, outcome in found]
        _told(lambda: self.database.acknowledge(session, lane, epoch, told))

    async def change_circuit(self, session: simulated.Session, changed: Circuit) -> bool:  # noqa: ARG002
        return self.database.change_circuit(changed)

    async def circuit(self, session: simulated.Session) -> Circuit:  # noqa: ARG002
        return self.database.circuit

    def write(self, game: UUID, *types: str, age: float = 0.0) -> list[str]:
        before = list(self.database.outbox)
        self.database.commit_events(self._row(game), *types)
        written = [event for event in self.database.outbox if event not in before]
        for event in written:
            self.database.outbox[event].at -= age
        return written

    def open(self, game: UUID, type_: str) -> Callable[[bool], None]:
        # Only what is committed is in the stand-in: a transaction is its commit.
        return lambda commit: self.database.commit_events(self._row(game), *[type_] * commit)

    def _row(self, game: UUID) -> simulated.GameRow:
        return self.database.games.setdefault(
            str(game), simulated.GameRow(str(game), lane_of(game), Phase.voting, None, set())
        )

    def broadcast(self, on: bool) -> None:
        self.database.broadcasting = on

    def stop(self) -> None:
        self.database.stop()

    def lift(self) -> None:
        self.database.lift()

    def places(self) -> list[Place]:
        return [
            Place(one.event_id, UUID(one.game_id), one.seq or 0, one.epoch) for one in self.database.numbered
        ]

    def outcomes(self) -> list[tuple[str, str]]:
        return [(one.event_id, one.outcome) for one in self.database.outcomes]


def _told(statement: Callable[[], T]) -> T:
    try:
        return statement()
    except simulated.UnavailableError:
        raise GoneError from None
    except simulated.FencedError:
        raise FencedError from None
    except simulated.StoppedError:
        raise relay.StoppedError("an emergency stop stands") from None


class PostgresRig:
    """The real one, asked as the relay asks it."""

    def __init__(self, settings: Settings, connection: psycopg.Connection) -> None:
        self._settings, self._connection = settings, connection
        self._began = self._one("select pg_current_snapshot()::text")
        self._sessions: list[AsyncConnection[Row]] = []
        self._open: list[psycopg.Connection] = []

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()
        for transaction in self._open:
            transaction.close()

    def _one(self, text: LiteralString, *values: object) -> Any:
        row = self._connection.execute(text, values).fetchone()
        return row[0] if row else None

    async def session(self) -> AsyncConnection[Row]:
        session = await connect_async(self._settings, Role.relay)
        self._sessions.append(session)
        await relay.enter_lease(session, idle=60)
        return session

    async def falls_silent(self, session: AsyncConnection[Row]) -> None:
        await relay.enter_lease(session, idle=0.1)
        await self._until_gone("pid = %s", session.info.backend_pid)

    async def crash(self) -> None:
        others = (
            "datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        self._connection.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}")
        await self._until_gone(others)

    async def _until_gone(self, which: LiteralString, *values: object) -> None:
        async with asyncio.timeout(10):
            while self._one(f"select count(*) from pg_stat_activity where {which}", *values):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def take(self, session: AsyncConnection[Row], lane: int) -> int | None:
        if not await _asked(relay.try_lanes(session, [lane])):
            return None
        (taken,) = await _asked(relay.take_lanes(session, [lane], uuid4()))
        return taken.epoch

    async def give_up(self, session: AsyncConnection[Row], lane: int, epoch: int) -> None:
        await _asked(relay.leave_lanes(session, {lane: epoch}))

    async def number(self, session: AsyncConnection[Row], lane: int, epoch: int) -> list[str]:
        done = await _asked(relay.sequence(session, {lane: epoch}, self._began, limit=1000))
        if done.fenced:
            raise FencedError
        return [str(each.event_id) for each in done.events]

    async def load(self, session: AsyncConnection[Row], lane: int) -> list[Waits]:
        games = await _asked(backlog.waiting(session, [lane], None, None, page=100))
        sent = {game.game_id: game.sent_seq for game in games}
        first = {game.game_id: game.first_seq or 1 for game in games if game.game_id}
        now = self._one("select clock_timestamp()")
        found = [
            Waits(
                str(each.event_id),
                each.seq or 0,
                sent[each.game_id],
                each.type,
                round((now - each.occurred_at).total_seconds()),
            )
            for each in await _asked(relay.load(session, first, [], each=100))
        ]
        return sorted(found, key=lambda waits: waits.seq)

    async def acknowledge(
        self,
        session: AsyncConnection[Row],
        lane: int,  # noqa: ARG002  # the event knows its own
        epoch: int,
        found: Sequence[tuple[str, str]],
    ) -> None:
        outcomes = [
            relay.Outcome(self._event(event), epoch, outcome, 1, 0, {"game": 17}, reason="invalid")
            for event, outcome in found
        ]
        if not await _asked(relay.acknowledge(session, outcomes, uuid4())):
            raise FencedError

    def _event(self, event: str) -> relay.OutboxEvent:
        with self._connection.cursor(row_factory=class_row(relay.OutboxEvent)) as cursor:
            found = cursor.execute(
                "select o.id, o.event_id, o.game_id, o.lane, s.seq, 0 as sent_seq, o.type, o.user_id, o.data,"
                " o.channels, o.request_id, o.occurred_at from orchestration.outbox o"
                " left join orchestration.sequenced s on s.outbox_id = o.id where o.event_id = %s",
                (event,),
            ).fetchone()
        assert found is not None
        return found

    async def change_circuit(self, session: AsyncConnection[Row], changed: Circuit) -> bool:
        return await _asked(relay.change_circuit(session, changed))

    async def circuit(self, session: AsyncConnection[Row]) -> Circuit:
        return (await _asked(relay.look(session, uuid4(), fresh=timedelta(seconds=2)))).circuit

    def write(self, game: UUID, *types: str, age: float = 0.0) -> list[str]:
        with self._connection.transaction():
            ids = [write_event(self._connection, game, type_, age=age) for type_ in types]
        return [
            self._one("select event_id::text from orchestration.outbox where id = %s", id_) for id_ in ids
        ]

    def open(self, game: UUID, type_: str) -> Callable[[bool], None]:
        transaction = psycopg.connect(self._connection.info.dsn, password=self._connection.info.password)
        self._open.append(transaction)
        write_event(transaction, game, type_)
        return lambda commit: transaction.commit() if commit else transaction.rollback()

    def broadcast(self, on: bool) -> None:
        self._one("select orchestration.set_flag('pubnub_broadcasting', 'test', 'a test', %s)", on)

    def stop(self) -> None:
        self._one("select orchestration.emergency_stop('test', 'a test')")

    def lift(self) -> None:
        self._one("select orchestration.lift_stop('test', 'a test')")

    def places(self) -> list[Place]:
        rows = self._connection.execute(
            "select event_id::text, game_id, seq, epoch from orchestration.sequenced"
            " order by sequenced_at, outbox_id"
        )
        return [Place(*row) for row in rows]

    def outcomes(self) -> list[tuple[str, str]]:
        return self._connection.execute(
            "select event_id::text, outcome from orchestration.outcomes order by at, outbox_id"
        ).fetchall()


async def _asked(statement: Awaitable[T]) -> T:
    try:
        return await statement
    except psycopg.OperationalError as error:
        raise GoneError from error
