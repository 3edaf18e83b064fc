"""Many games at once: starts them at a rate, hears them all, checks each as it ends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from uuid import NAMESPACE_DNS, uuid4, uuid5

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.local.players.application_client import (
    ApplicationClient,
    StatementFailedError,
    names_of,
)
from sketchy_orchestration.local.players.checker import check
from sketchy_orchestration.local.players.expected import expected, key
from sketchy_orchestration.local.players.game import Game, Pace, settle
from sketchy_orchestration.local.players.listener import Listener
from sketchy_orchestration.local.players.plan import (
    PLAYERS,
    ROUND_SECONDS,
    VOTING_SECONDS,
    Habits,
    plan_game,
)
from sketchy_orchestration.local.players.record import FinalState, GameRecord, Rules
from sketchy_orchestration.local.players.report import Report, Tally
from sketchy_orchestration.local.players.table import Table
from sketchy_orchestration.pubnub.keyset import Keyset

# Players are the same people in every run, so that a database does not fill with them.
_PEOPLE = uuid5(NAMESPACE_DNS, "players.example")
_LOOK_EVERY_S = 1.0
_CLOCK_EVERY_S = 30.0


class WrongPlayError(SketchyError):
    """A game the application would not allow."""


@dataclass(frozen=True, slots=True)
class Play:
    """What to play.

    Attributes:
        games: how many in all; with `forever`, how many are in play at any time.
        players: of each game, 2 to 8.
        rate: games started per second.
        settle_s: how long the last messages of a finished game may take.
        linger_s: how long to go on listening after that, for what should not come.
        ids: of the first games; the others get new ones.
    """

    games: int = 10
    players: int = 4
    rate: float = 5.0
    forever: bool = False
    pace: Pace = field(default_factory=Pace)
    habits: Habits = field(default_factory=Habits)
    rules: Rules = field(default_factory=Rules)
    seed: int | None = None
    connections: int = 4
    settle_s: float = 10.0
    linger_s: float = 0.5
    ids: Sequence[str] = ()

    def refuse_wrong(self) -> None:
        """Raises WrongPlayError naming the first value out of bounds and what is allowed."""
        bounds: list[tuple[str, float, float, float]] = [
            ("games", self.games, 1, 100_000),
            ("players", self.players, *PLAYERS),
            ("rate", self.rate, 0.01, 1000),
            ("round-seconds", self.pace.round_seconds, *ROUND_SECONDS),
            ("voting-seconds", self.pace.voting_seconds, *VOTING_SECONDS),
            ("speed", self.pace.speed, 1, 100),
            ("connections", self.connections, 1, 20),
        ]
        for name, value, least, most in bounds:
            if not least <= value <= most:
                raise WrongPlayError(f"{name} is {value:g}; it must be between {least:g} and {most:g}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How it stands: games in play by phase, and the sums so far."""

    in_play: Mapping[str, int]
    finished: int
    tally: Tally


OnProgress = Callable[[Progress], None]


class Crowd:
    """Plays until all games are over, or until it is stopped; then `report` says what came of it."""

    def __init__(self, play: Play, url: str, keyset: Keyset, on_progress: OnProgress | None = None) -> None:
        play.refuse_wrong()
        self._play = play
        self._client = ApplicationClient(url, play.connections)
        self._listener = Listener(keyset, self._hear, play.games)
        self._on_progress = on_progress or (lambda _: None)
        self._random = Random(play.seed)
        self._tables: dict[str, Table] = {}
        self._over: list[str] = []
        self._free: deque[tuple[str, str]] = deque()
        self._ids = deque(play.ids)
        self._room = asyncio.Semaphore(play.games)
        self._stopping = asyncio.Event()
        self._crash: BaseException | None = None
        self._began = time.monotonic()
        self._timer_columns = True
        self._has_orchestration = False
        self.tally = Tally()

    def stop(self) -> None:
        """Start no more games and leave those in play: what has finished is reported."""
        self._stopping.set()

    def report(self) -> Report:
        return self.tally.report(time.monotonic() - self._began, self._client.retries)

    async def run(self) -> Report:
        """Play.

        Raises:
            PlayersNotAdmittedError, NothingToHearError: there is nothing to play on, or nobody to hear.
        """
        async with self._client, self._listener:
            await self._prepare()
            self._began = time.monotonic()
            looking = asyncio.create_task(self._look())
            games: set[asyncio.Task[None]] = set()
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                starting = asyncio.create_task(self._start_games(games))
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                while games and not self._stopping.is_set():
                    await asyncio.wait({*games, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (starting, stopping, looking, *games):
                    task.cancel()
                await asyncio.gather(starting, stopping, looking, *games, return_exceptions=True)
            if self._crash is not None:
                raise self._crash
            self._tell()
            return self.report()

    async def _prepare(self) -> None:
        self._timer_columns = (await self._client.ask("has_timer_columns"))[0][0]
        self._has_orchestration = (await self._client.ask("has_orchestration"))[0][0]
        names = names_of(self._play.games * self._play.players)
        people = {str(uuid5(_PEOPLE, name)): name for name in names}
        await self._client.sign_up(people)
        self._free.extend(people.items())

    async def _start_games(self, games: set[asyncio.Task[None]]) -> None:
        begin = asyncio.get_running_loop().time()
        number = 0
        while self._play.forever or number < self._play.games:
            due = begin + number / self._play.rate
            now = asyncio.get_running_loop().time()
            if due > now:
                await asyncio.sleep(due - now)
            else:
                # After a wait for room there is no hurry to make up for it.
                begin += now - due
            await self._room.acquire()
            number += 1
            task = asyncio.create_task(self._play_one())
            games.add(task)
            task.add_done_callback(games.discard)
            task.add_done_callback(self._look_at)

    async def _play_one(self) -> None:
        play = self._play
        people = [self._free.popleft() for _ in range(play.players)]
        game_id = self._ids.popleft() if self._ids else str(uuid4())
        record = GameRecord(game_id, dict(people))
        table = self._tables[record.game_id] = Table(record)
        self.tally.started += 1
        plan = plan_game(self._random, play.players, play.habits)
        try:
            self._hear_no_more()
            await self._listener.add([record.game_id])
            game = Game(self._client, table, plan, play.pace, timer_columns=self._timer_columns)
            try:
                await game.play()
            except StatementFailedError as error:
                record.failures.append(str(error))
            await self._finish(table)
        finally:
            del self._tables[record.game_id]
            self._over.append(record.game_id)
            self._free.extend(people)
            self._room.release()

    async def _finish(self, table: Table) -> None:
        record = table.record
        rows = await self._client.ask("final", {"game_id": record.game_id})
        if rows:
            status, winner, placements = rows[0]
            record.final = FinalState(status, winner, placements)
        legacy = not await self._is_enrolled(record.game_id)
        rules = replace(
            self._play.rules,
            complete=self._play.rules.complete and not legacy,
            clock_tolerance_s=self._play.rules.clock_tolerance_s + self._client.clock_error_s,
        )

        def heard_all() -> bool:
            told = Counter(key(one) for one in record.heard)
            return not expected(record, rules) - told

        await settle(table, heard_all, self._play.settle_s)
        await asyncio.sleep(self._play.linger_s)
        self.tally.add(record, check(record, rules), legacy=legacy)

    async def _is_enrolled(self, game_id: str) -> bool:
        if not self._has_orchestration:
            return False
        return bool((await self._client.ask("is_enrolled", {"game_id": game_id}))[0][0])

    def _hear(self, channel: str, message: Mapping[str, object]) -> None:
        # The channel, not the message, says whose it is: a wrong gameId must be found, not missed.
        table = self._tables.get(channel.partition("-")[2])
        if table is not None:
            table.hear(channel, message, self._client.now())

    async def _look(self) -> None:
        """Read now and then what may not have been heard, and tell how it stands."""
        last_clock = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self._hear_no_more()
            self._tell()
            with suppress(SketchyError):
                if time.monotonic() - last_clock > _CLOCK_EVERY_S:
                    last_clock = time.monotonic()
                    await self._client.set_clock()
                asked = self._client.now()
                for game_id, phase, deadline in await self._client.ask(
                    "states", {"game_ids": list(self._tables)}
                ):
                    if table := self._tables.get(game_id):
                        table.learn(phase, deadline, asked)

    def _hear_no_more(self) -> None:
        over, self._over = self._over, []
        self._listener.remove(over)

    def _tell(self) -> None:
        in_play = Counter(table.phase for table in self._tables.values())
        self._on_progress(Progress(in_play, self.tally.finished.total(), self.tally))

    def _look_at(self, game: asyncio.Task[None]) -> None:
        if not game.cancelled() and (error := game.exception()) is not None:
            self._crash = self._crash or error
            self.stop()
