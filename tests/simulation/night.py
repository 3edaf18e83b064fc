"""One simulated night: games, players, workers and faults, all from one seed, and what the checker says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random

from sketchy_orchestration.domain import phases
from sketchy_orchestration.domain.lanes import LANES
from sketchy_orchestration.domain.phases import Phase
from tests.faults import invariants
from tests.faults.invariants import Breach
from tests.simulation.database import Database, GameRow
from tests.simulation.kernel import Host, Kernel, Work
from tests.simulation.relay import Defects, Relay
from tests.simulation.service import MOODS, Service
from tests.simulation.sweeper import Sweeper

SHIFTS = 2
ARRIVALS = 60.0
"""Seconds over which games are made."""

LOBBY_SECONDS = 1800.0

FEWEST_TRANSITIONS = 1
"""By the timer, for each game: voting always ends by it, and few games are cancelled before."""

FEWEST_TOLD, FEWEST_DELIVERED = 8, 6
"""Events for each game with an outcome, and heard: of a start, four phases, an end, drawings and votes."""


@dataclass
class Night:
    """What happened under one seed.

    Attributes:
        faults: how many of each kind. seconds: of virtual time.
    """

    seed: int
    games: int
    breaches: list[Breach]
    faults: Counter[str]
    transitions: int
    delivered: int
    expired: int
    seconds: float


@dataclass
class Variant:
    """A deliberately broken system; the default is the real one."""

    relay: Defects = field(default_factory=Defects)
    rechecks: bool = True
    deadline_base: Callable[[GameRow, phases.Move, float], float] | None = None


def night(seed: int, games: int = 40, variant: Variant | None = None) -> Night:
    """Simulate it; the same seed gives the same night."""
    return _Night(seed, games, variant or Variant()).run()


class _Night:
    def __init__(self, seed: int, games: int, variant: Variant) -> None:
        self._seed, self._games, self._variant = seed, games, variant
        self._random = Random(seed)
        self._kernel = Kernel()
        self._database = Database(self._kernel, Random(self._random.random()))
        self._database.deadline_base = variant.deadline_base
        self._service = Service(Random(self._random.random()))
        self._players = Host("players")
        self._nature = Host("nature")
        self._faults: Counter[str] = Counter()
        self._sweepers = [self._sweeper(rank) for rank in range(SHIFTS)]
        self._relays = [self._relay(number) for number in range(SHIFTS)]
        self._hired = list(self._relays)
        self._over = False
        self._stops: list[tuple[float, float]] = []

    def _sweeper(self, rank: int) -> Sweeper:
        seeded = Random(self._random.random())
        return Sweeper(self._kernel, self._database, seeded, rank, rechecks=self._variant.rechecks)

    def _relay(self, number: int) -> Relay:
        seeded = Random(self._random.random())
        name = f"fan-out shift {number}"
        return Relay(self._kernel, self._database, self._service, seeded, name, self._variant.relay)

    def run(self) -> Night:
        """All of it."""
        for number in range(self._games):
            self._kernel.spawn(self._players, self._play(f"g{number}"))
        self._kernel.spawn(self._nature, self._trouble())
        # Rounds are at most three minutes, and what was paused or in backoff comes to rest in two more.
        self._kernel.run(ARRIVALS + 900.0, finished=self._at_rest)
        # Whoever was paused may yet send something; nobody writes any more.
        self._players.alive = False
        self._kernel.run(self._kernel.now + 2.0)
        books = self._books()
        breaches = invariants.check(books, self._expected())
        outcomes = Counter(one.outcome for one in books.outcomes)
        if outcomes["delivered"] < self._games * FEWEST_DELIVERED:
            breaches.append(Breach("how much", f"only {outcomes['delivered']} events were heard"))
        breaches += _under_a_stop(books, self._stops)
        return Night(
            self._seed,
            self._games,
            breaches,
            self._faults,
            len(books.transitions),
            outcomes["delivered"],
            outcomes["expired"],
            self._kernel.now,
        )

    def _at_rest(self) -> bool:
        database = self._database
        return (
            self._over
            and len(database.games) == self._games
            and not database.live
            and len(database.outcomes) >= len(database.outbox)
        )

    # Players and the application ---------------------------------------------------------------------

    def _play(self, game_id: str) -> Work:
        random, database = Random(f"{self._seed} {game_id}"), self._database
        yield random.uniform(0.0, ARRIVALS)
        while not self._database.up:
            yield 0.2
        players = {f"p{number}" for number in range(random.randint(1, 4))}
        game = GameRow(game_id, hash_lane(game_id), Phase.waiting, self._kernel.now + LOBBY_SECONDS, players)
        database.games[game_id] = database.live[game_id] = game
        database.by_application(game, Phase.briefing, phases.BRIEFING_SECONDS)
        while game.phase not in phases.FINISHED:
            yield random.expovariate(0.12)
            if not database.up or game.locked_until > self._kernel.now:
                continue
            self._act(game, random)

    def _act(self, game: GameRow, random: Random) -> None:
        database, deed = self._database, random.random()
        # A transaction that stays open a while holds the game's row.
        if random.random() < 0.1:
            game.locked_until = self._kernel.now + random.expovariate(5.0)
        if game.phase is Phase.drawing and deed < 0.7:
            player = random.choice(sorted(game.players)) if game.players else None
            if player is not None:
                game.drawn.add(player)
                database.commit_events(game, "drawing_submitted")
                for sweeper in self._sweepers:
                    self._kernel.notify(sweeper.process)
        elif game.phase is Phase.voting and deed < 0.8:
            database.commit_events(game, "vote_cast")
        elif deed < 0.9 and len(game.players) > 1:
            game.players.discard(min(game.players))
            database.commit_events(game, "player_left")
        elif deed > 0.97 and game.phase is Phase.briefing:
            database.by_application(game, Phase.drawing, 60.0)
        elif deed > 0.95:
            database.by_application(game, Phase.cancelled, None)

    # Trouble -----------------------------------------------------------------------------------------

    def _trouble(self) -> Work:
        random = Random(self._random.random())
        until = ARRIVALS + 120.0
        kinds = [
            self._kill,
            self._pause,
            self._partition,
            self._crash,
            self._mood,
            self._lose_answers,
            self._flag,
        ]
        while self._kernel.now < until:
            yield random.expovariate(0.08)
            random.choice(kinds)(random)
        self._over = True
        self._service.mood, self._service.lost = None, 0.0

    def _kill(self, random: Random) -> None:
        number, back = random.randrange(SHIFTS), random.uniform(0.2, 3.0)
        if random.random() < 0.5:
            self._faults["timer shift killed"] += 1
            self._sweepers[number].host.alive = False
            self._kernel.call(back, lambda: self._sweepers.__setitem__(number, self._sweeper(number)))
        else:
            self._faults["fan-out shift killed"] += 1
            relay = self._relays[number]
            if relay.host.alive:
                relay.exposed += relay.in_flight(range(LANES))
            relay.host.alive = False
            self._kernel.call(back, lambda: self._replace(number))

    def _replace(self, number: int) -> None:
        self._relays[number] = self._relay(len(self._hired))
        self._hired.append(self._relays[number])

    def _pause(self, random: Random) -> None:
        host = random.choice([one.host for one in self._sweepers] + [one.host for one in self._relays])
        self._faults["shift paused"] += 1
        host.paused_until = self._kernel.now + random.expovariate(0.5)

    def _partition(self, random: Random) -> None:
        self._faults["fan-out shift cut off"] += 1
        relay = random.choice(self._relays)
        relay.line.cut_off(random.uniform(0.1, 8.0), deaf=random.random() < 0.5)

    def _crash(self, random: Random) -> None:
        if self._database.up:
            self._faults["database crashed"] += 1
            self._database.crash(random.uniform(0.05, 4.0))

    def _mood(self, random: Random) -> None:
        mood = random.choice(list(MOODS))
        self._faults[f"PubNub: {mood}"] += 1
        self._service.mood, self._service.share = mood, random.choice([0.1, 0.4, 1.0, 1.0])
        self._kernel.call(random.uniform(0.5, 40.0), lambda: setattr(self._service, "mood", None))

    def _lose_answers(self, random: Random) -> None:
        self._faults["answers lost"] += 1
        self._service.lost = random.choice([0.05, 0.3])
        self._kernel.call(random.uniform(0.5, 10.0), lambda: setattr(self._service, "lost", 0.0))

    def _flag(self, random: Random) -> None:
        database, seconds, which = self._database, random.uniform(0.5, 8.0), random.random()
        if database.stopped:
            return
        if which < 0.4:
            self._faults["switched off"] += 1
            database.flags = phases.Flags(timer_monitoring=False)
            self._kernel.call(seconds, partial(self._switch_on, "flags", phases.Flags()))
        elif which < 0.8:
            self._faults["switched off"] += 1
            database.broadcasting = False
            self._kernel.call(seconds, partial(self._switch_on, "broadcasting", True))
        else:
            self._faults["emergency stop"] += 1
            database.stop()
            self._stops.append((self._kernel.now, self._kernel.now + seconds))
            self._kernel.call(seconds, database.lift)

    def _switch_on(self, name: str, value: object) -> None:
        # A stop that has come meanwhile is lifted by itself.
        if not self._database.stopped:
            setattr(self._database, name, value)

    # Books -------------------------------------------------------------------------------------------

    def _books(self) -> invariants.Books:
        database = self._database
        return invariants.Books(
            [
                invariants.Game(
                    game.game_id,
                    "orchestration",
                    game.phase.value,
                    game.phase.value if game.game_id in database.live else None,
                    max(0.0, self._kernel.now - game.deadline)
                    if game.deadline is not None and game.game_id in database.live
                    else None,
                )
                for game in database.games.values()
            ],
            database.transitions,
            [
                invariants.Written(
                    row.event_id, row.game.game_id, row.type, (f"game-{row.game.game_id}",), row.new_phase
                )
                for row in database.outbox.values()
            ],
            database.numbered,
            database.outcomes,
            self._service.accepted,
            unanswered=self._service.unanswered,
        )

    def _expected(self) -> invariants.Expected:
        return invariants.Expected(
            transitions=self._games * FEWEST_TRANSITIONS,
            delivered=self._games * FEWEST_TOLD,
            repeats=sum(relay.exposed for relay in self._hired),
            expired=True,
        )


def hash_lane(game_id: str) -> int:
    """A lane for a game; Python's own hash differs from run to run."""
    return sum(map(ord, game_id)) * 7 % LANES


def _under_a_stop(books: invariants.Books, stops: list[tuple[float, float]]) -> Iterator[Breach]:
    """From an emergency stop to its lifting nothing is moved by us, and nothing numbered."""
    for began, lifted in stops:
        for move in books.transitions:
            if began < move.at < lifted and move.cause != "application":
                yield Breach("emergency stop", f"game {move.game_id} came to {move.to_phase} at {move.at}")
        for one in books.numbered:
            if began < one.at < lifted:
                yield Breach("emergency stop", f"event {one.event_id} was numbered at {one.at}")
