"""A whole game as it should be heard, to be broken in tests one promise at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from sketchy_orchestration.local.players.record import Deed, DeedKind, FinalState, GameRecord, Heard

START = 1_800_000_000.0


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Story:
    """Builds a game's evidence: each `tell` is the next event, heard 5 ms after it occurred."""

    def __init__(self, players: int = 3) -> None:
        users = [str(uuid4()) for _ in range(players)]
        self.game_id = str(uuid4())
        self.record = GameRecord(self.game_id, {user: f"player-{n}" for n, user in enumerate(users, start=1)})
        self.users = users
        self.seq = 0

    def name(self, user: str) -> str:
        return self.record.players[user]

    def deed(self, kind: DeedKind, at: float, **more: str | float | None) -> Deed:
        deed = replace(Deed(kind, at - 0.002, at, request_id=f"request-{uuid4()}"), **more)  # type: ignore[arg-type]
        self.record.deeds.append(deed)
        return deed

    def tell(
        self,
        kind: str,
        at: float,
        data: Mapping[str, object],
        user: str = "system",
        request_id: str | None = "made-here",
    ) -> Heard:
        self.seq += 1
        message: dict[str, object] = {
            "type": kind,
            "gameId": self.game_id,
            "userId": user,
            "timestamp": int((at + 0.003) * 1000),
            "version": "2.0.0",
            "data": data,
            "eventId": str(uuid4()),
            "seq": self.seq,
            "after": self.seq - 1,
            "occurredAt": iso(at),
            "requestId": request_id,
        }
        heard = Heard(f"game-{self.game_id}", message, at + 0.005)
        self.record.heard.append(heard)
        if kind in ("player_joined", "player_left"):
            self.record.heard.append(replace(heard, channel=f"presence-{self.game_id}"))
        return heard

    def phase(
        self,
        before: str,
        after: str,
        at: float,
        until: float | None,
        cause: str,
        request_id: str | None = "made-here",
    ) -> Heard:
        return self.tell(
            "phase_changed",
            at,
            {
                "newPhase": after,
                "previousPhase": before,
                "phaseStartedAt": iso(at),
                "transitionTriggeredBy": cause,
                "gameData": {
                    "prompt": "A cat",
                    "maxPlayers": 4,
                    "currentPlayers": len(self.users),
                    "phaseExpiresAt": None if until is None else iso(until),
                },
            },
            request_id=request_id,
        )

    def end_by_timer(self, before: str, after: str, at: float, until: float | None) -> None:
        self.tell(
            "timer_expired",
            at,
            {
                "expiredPhase": before,
                "nextPhase": after,
                "expiredAt": iso(at),
                "transitionTriggeredBy": "timer",
            },
        )
        self.phase(before, after, at, until, "timer")


def a_good_game() -> Story:
    """Three players; all draw but the third; the first wins by two votes to one... each hears everything."""
    story = Story()
    first, second, third = story.users
    story.deed(DeedKind.created, START, user_id=first)
    for user in story.users:
        deed = story.deed(DeedKind.joined, START + 0.1, user_id=user)
        story.tell(
            "player_joined",
            deed.done,
            {"username": story.name(user), "joinedAt": iso(deed.done), "userId": user, "isReady": False},
            user,
            deed.request_id,
        )
    deed = story.deed(DeedKind.readied, START + 0.5, user_id=second)
    story.tell(
        "player_ready", deed.done, {"username": story.name(second), "isReady": True}, second, deed.request_id
    )
    started = story.deed(DeedKind.started, START + 1, user_id=first, deadline=START + 21)
    story.tell(
        "game_started",
        started.done,
        {
            "startedAt": iso(started.done),
            "prompt": "A cat",
            "roundDuration": 60,
            "participants": [{"userId": user, "username": story.name(user)} for user in story.users],
        },
        request_id=started.request_id,
    )
    story.phase("waiting", "briefing", started.done, START + 21, "application", started.request_id)
    story.end_by_timer("briefing", "drawing", START + 21.001, START + 81)
    drawings = {}
    for user, at in ((first, START + 40), (second, START + 50)):
        drawing = str(uuid4())
        drawings[user] = drawing
        deed = story.deed(DeedKind.drew, at, user_id=user, submission_id=drawing)
        story.tell(
            "drawing_submitted",
            at,
            {"username": story.name(user), "submissionId": drawing, "submittedAt": iso(at)},
            user,
            deed.request_id,
        )
    story.end_by_timer("drawing", "voting", START + 91.002, START + 121)
    for user, of in ((first, second), (second, first), (third, first)):
        deed = story.deed(DeedKind.voted, START + 100, user_id=user, submission_id=drawings[of])
        story.tell(
            "vote_cast",
            START + 100,
            {"voterUsername": story.name(user), "submissionId": drawings[of], "votedAt": iso(START + 100)},
            user,
            deed.request_id,
        )
    story.end_by_timer("voting", "completed", START + 121.001, None)
    story.tell(
        "game_completed",
        START + 121.001,
        {
            "completedAt": iso(START + 121.001),
            "winner": {"userId": first, "username": story.name(first), "submissionId": drawings[first]},
            "results": [
                {"userId": first, "username": story.name(first), "placement": 1, "voteCount": 2},
                {"userId": second, "username": story.name(second), "placement": 2, "voteCount": 1},
                {"userId": third, "username": story.name(third), "placement": None, "voteCount": 0},
            ],
        },
    )
    story.record.final = FinalState("completed", first, {first: 1, second: 2, third: None})
    return story


def find(record: GameRecord, kind: str, new_phase: str | None = None) -> int:
    """Index of the first message of that type in `record.heard`."""
    return next(
        n
        for n, heard in enumerate(record.heard)
        if heard.type == kind and (new_phase is None or heard.data.get("newPhase") == new_phase)
    )


def say(heard: Heard, **changed: object) -> Heard:
    """The same message with other envelope fields."""
    return replace(heard, message={**heard.message, **changed})


def say_data(heard: Heard, **changed: object) -> Heard:
    """The same message with other data fields."""
    return say(heard, data={**heard.data, **changed})
