"""Plays one game from its creation to its end, the way the application and its clients do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

from sketchy_orchestration.local.players.application_client import (
    ApplicationClient,
    Done,
    StatementFailedError,
)
from sketchy_orchestration.local.players.plan import PHASE_SECONDS, Drawing, GamePlan, Leaving, PlayerPlan
from sketchy_orchestration.local.players.record import Deed, DeedKind
from sketchy_orchestration.local.players.table import OVER, Table

# A deadline moved nearer than this would pass while the statement is still on its way.
_NEAREST_S = 0.15
_GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long games take.

    Attributes:
        round_seconds, voting_seconds: as the application's CHECKs allow them.
        speed: how many times faster a game goes than by its own durations, by moving each deadline nearer as
            soon as its phase begins: the application owns that column. 1 moves nothing.
        patience_s: how long after its deadline a phase may last before the game is given up as unfinished.
    """

    round_seconds: int = 30
    voting_seconds: int = 15
    speed: float = 1.0
    patience_s: float = 60.0

    def seconds(self, phase: str) -> float:
        if phase == "drawing":
            return float(self.round_seconds)
        return float(self.voting_seconds if phase == "voting" else PHASE_SECONDS.get(phase, _GRACE_S))


@dataclass(slots=True)
class Seat:
    """A player at the table: whose it is, what it plans, whether it is there."""

    user_id: str
    plan: PlayerPlan
    present: bool = False


class Game:
    """One game at one table; `play` returns when it is over, or given up."""

    def __init__(
        self,
        client: ApplicationClient,
        table: Table,
        plan: GamePlan,
        pace: Pace,
        *,
        timer_columns: bool = True,
    ) -> None:
        self._client = client
        self._table = table
        self._plan = plan
        self._pace = pace
        self._movable = timer_columns and pace.speed > 1
        self._record = table.record
        self._id = table.record.game_id
        self._seats = [
            Seat(user, player) for user, player in zip(table.record.players, plan.players, strict=True)
        ]

    async def play(self) -> None:
        await self._gather()
        if self._plan.cancelled_while == "waiting":
            await self._cancel()
            return
        if not await self._start():
            return
        for phase, act in (
            ("briefing", None),
            ("drawing", self._draw),
            ("voting", self._vote),
            ("results", None),
        ):
            if not await self._phase(phase, act):
                return

    # -- the lobby

    async def _gather(self) -> None:
        owner = self._seats[0]
        players = len(self._seats)
        await self._do(
            DeedKind.created,
            owner,
            "create_game",
            prompt=self._plan.prompt,
            max_players=max(2, players),
            round_seconds=self._pace.round_seconds,
            voting_seconds=self._pace.voting_seconds,
        )
        for seat in self._seats:
            seat.present = await self._do(DeedKind.joined, seat, "join") is not None
        for seat in self._seats:
            if seat.plan.readies:
                await self._do(DeedKind.readied, seat, "ready")
            if seat.plan.leaving is Leaving.in_lobby:
                await self._leave(seat)

    async def _start(self) -> bool:
        done = await self._try(self._client.as_user(self._seats[0].user_id, "start", {"game_id": self._id}))
        if done is None:
            return False
        asked = self._client.now()
        state = await self._client.ask("timer_state", {"game_id": self._id})
        phase, deadline = state[0] if state else ("briefing", None)
        self._record.deeds.append(
            Deed(
                DeedKind.started,
                done.began,
                done.done,
                user_id=self._seats[0].user_id,
                deadline=deadline if phase == "briefing" else None,
                request_id=done.request_id,
            )
        )
        self._table.learn(phase, deadline, asked)
        return True

    # -- the phases

    async def _phase(self, phase: str, act: Callable[[float], Awaitable[None]] | None = None) -> bool:
        """Reach a phase, quicken it, act in it, and see it end; False when it does not end."""
        table = self._table
        if not await self._wait(lambda: table.passed(phase) or table.phase == phase):
            return False
        # Older databases tell of a phase without its deadline; reading finds it a little later.
        await self._wait(lambda: table.passed(phase) or table.deadline is not None)
        if table.passed(phase) or table.deadline is None:
            return table.passed(phase)
        deadline = table.deadline
        if self._movable:
            full = self._pace.seconds(phase)
            deadline = await self._move(phase, deadline - full + full / self._pace.speed)
        if self._plan.cancelled_while == phase:
            # Not at once: the application refuses two transitions within half a second.
            owner = self._seats[0]
            await self._perform(phase, self._client.now(), deadline, [(0.4, self._cancel, owner)])
        elif act is not None:
            await act(deadline)
        return await self._wait(lambda: table.passed(phase))

    async def _draw(self, deadline: float) -> None:
        """Those in time draw, some leave; once the deadline has moved for the latecomers, they draw."""
        begin = self._client.now()
        acts: list[tuple[float, Callable[[Seat], Awaitable[object]], Seat]] = []
        for seat in self._here():
            if seat.plan.leaving is Leaving.in_drawing:
                acts.append((seat.plan.leaves_at, self._leave, seat))
            elif seat.plan.drawing is Drawing.in_time:
                acts.append((seat.plan.draws_at, self._submit, seat))
        await self._perform("drawing", begin, deadline, acts)
        late = [seat for seat in self._here() if seat.plan.drawing is not Drawing.in_time]
        table = self._table
        if not late or not await self._wait(
            lambda: table.passed("drawing") or (table.deadline or 0) > deadline + 0.5
        ):
            return
        extended = table.deadline
        if table.passed("drawing") or extended is None:
            return
        if self._movable:
            extended = await self._move("drawing", self._client.now() + _GRACE_S / self._pace.speed)
        latecomers = [seat for seat in late if seat.plan.drawing is Drawing.late]
        await self._perform(
            "drawing",
            self._client.now(),
            extended,
            [(seat.plan.draws_at, self._submit, seat) for seat in latecomers],
        )

    async def _vote(self, deadline: float) -> None:
        begin = self._client.now()
        rows = await self._client.ask("drawings", {"game_id": self._id})
        drawings = sorted((str(user), str(drawing)) for drawing, user in rows)

        async def vote(seat: Seat) -> None:
            choice = [drawing for user, drawing in drawings if user != seat.user_id]
            if choice:
                await self._cast(seat, choice[int(seat.plan.taste * len(choice))])

        acts: list[tuple[float, Callable[[Seat], Awaitable[object]], Seat]] = []
        for seat in self._here():
            if seat.plan.leaving is Leaving.in_voting:
                acts.append((seat.plan.leaves_at, self._leave, seat))
            elif seat.plan.votes:
                acts.append((seat.plan.votes_at, vote, seat))
        await self._perform("voting", begin, deadline, acts)

    async def _perform(
        self,
        phase: str,
        begin: float,
        deadline: float,
        acts: list[tuple[float, Callable[[Seat], Awaitable[object]], Seat]],
    ) -> None:
        """Each act at its part of the time between; none after the phase has ended."""
        for part, act, seat in sorted(acts, key=lambda one: one[0]):
            due = begin + part * max(0.0, deadline - begin)
            while not self._table.passed(phase) and (left := due - self._client.now()) > 0:
                await self._table.change(left)
            if self._table.passed(phase):
                return
            await act(seat)

    def _here(self) -> list[Seat]:
        return [seat for seat in self._seats if seat.present]

    # -- the acts

    async def _submit(self, seat: Seat) -> None:
        lines = 1 + int(seat.plan.taste * 40)
        await self._do(
            DeedKind.drew,
            seat,
            "draw",
            only_with_rows=True,
            submission_id=str(uuid4()),
            drawing=json.dumps({"type": "excalidraw", "elements": list(range(lines))}),
            elements=lines,
            seconds=int(self._pace.round_seconds * seat.plan.draws_at),
        )

    async def _cast(self, seat: Seat, drawing: str) -> None:
        await self._do(
            DeedKind.voted, seat, "vote", only_with_rows=True, submission_id=drawing, vote_id=str(uuid4())
        )

    async def _leave(self, seat: Seat) -> None:
        await self._do(DeedKind.left, seat, "leave")
        seat.present = False

    async def _cancel(self, _: Seat | None = None) -> None:
        done = await self._try(self._client.as_user(self._seats[0].user_id, "cancel", {"game_id": self._id}))
        if done is not None:
            self._record.deeds.append(
                Deed(DeedKind.cancelled, done.began, done.done, request_id=done.request_id)
            )
            await self._wait(lambda: self._table.phase in OVER)

    async def _move(self, phase: str, wanted: float) -> float:
        """Move the deadline nearer, if the phase still runs; returns the deadline that holds."""
        wanted = max(wanted, self._client.now() + _NEAREST_S)
        values = {"game_id": self._id, "phase": phase, "deadline": wanted}
        done = await self._try(self._client.as_service("move_deadline", values))
        if done is None or not done.rows:
            return self._table.deadline or wanted
        moved = float(done.rows[0][0])
        self._record.deeds.append(
            Deed(DeedKind.moved_deadline, done.began, done.done, phase=phase, deadline=moved)
        )
        if self._table.phase == phase:
            self._table.learn(phase, moved, done.done)
        return moved

    async def _do(
        self, kind: DeedKind, seat: Seat, name: str, *, only_with_rows: bool = False, **values: object
    ) -> Done | None:
        """An act of a player, entered in the record when it was done."""
        given = {"game_id": self._id, "user_id": seat.user_id, **values}
        done = await self._try(self._client.as_user(seat.user_id, name, given))
        if done is None or (only_with_rows and not done.rows):
            return None
        submission = values.get("submission_id")
        self._record.deeds.append(
            Deed(
                kind,
                done.began,
                done.done,
                user_id=seat.user_id,
                submission_id=None if submission is None else str(submission),
                request_id=done.request_id,
            )
        )
        return done

    async def _try(self, act: Awaitable[Done]) -> Done | None:
        try:
            return await act
        except StatementFailedError as error:
            self._record.failures.append(str(error))
            return None

    async def _wait(self, reached: Callable[[], bool]) -> bool:
        """Wait for the game; False when it lingers past its deadline for longer than patience allows."""
        begin = self._client.now()
        table = self._table
        while not reached():
            until = max(begin, table.deadline or begin) + self._pace.patience_s
            left = until - self._client.now()
            if left <= 0:
                return False
            await table.change(min(left, 1.0))
        return True


async def settle(table: Table, must_be_heard: Callable[[], bool], seconds: float) -> None:
    """Give the last messages time to arrive: until everything was heard, at most `seconds`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not must_be_heard() and (left := until - loop.time()) > 0:
        await table.change(left)
