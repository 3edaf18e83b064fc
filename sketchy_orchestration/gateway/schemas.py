"""What the functions take and answer, with examples: validation and the OpenAPI document come from here."""

from __future__ import annotations

import re
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from sketchy_orchestration.domain import envelope

GAME = "5f0c8f0e-6f0b-4c5e-9c1b-0d8a5a3c2b1f"
PLAYER = "7d0a1f7e-3b83-4c58-8d1c-2f3f1f0a9b55"
EVENT = "0b9f5a5e-4f1e-4f0e-8a55-6b1f0f1d7c11"
REQUEST = "3b1e0f9a-8e4f-4d0c-a8a0-0f4f3a1c9d21"
SYSTEM = "system"

EventType = Literal[
    "player_joined",
    "player_left",
    "player_ready",
    "game_started",
    "phase_changed",
    "timer_sync",
    "server_timer_sync",
    "timer_expired",
    "drawing_submitted",
    "vote_cast",
    "game_completed",
    "connection_status",
    "MATCH_FOUND",
    "test",
]
Phase = Literal["waiting", "briefing", "drawing", "voting", "results", "completed", "cancelled"]
State = Literal["waiting", "delivered", "dead", "expired"]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)


class Message(BaseModel):
    """Field names are camelCase outside."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [fields]})


class BroadcastRequest(Message):
    """A game event. Of type test: any gameId and userId; else uuids, or "system" as userId."""

    model_config = _example(
        type="test",
        gameId="test-game",
        userId="test-user",
        timestamp=1234567890,
        version="2.0.0",
        data={},
    )

    type: EventType
    game_id: str = Field(
        min_length=1, max_length=87, description="The game; it names the channel game-<gameId>"
    )
    user_id: str = Field(min_length=1, max_length=87, description='Whom it is about; "system" for the server')
    timestamp: float = Field(
        ge=0, le=1e15, description="Milliseconds since 1970; what clients get is the moment of publishing"
    )
    version: str = Field(
        pattern=r"^[0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,5}$", description="Version of the envelope"
    )
    data: dict[str, Any] = Field(default_factory=dict, description="The fields of the type")

    @field_validator("timestamp", mode="before")
    @classmethod
    def _is_number(cls, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("must be a number of milliseconds")
        return value

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.type == "test":
            if fault := envelope.channel_fault(f"game-{self.game_id}"):
                raise ValueError(f"gameId: {fault}")
            return self
        if not _UUID.match(self.game_id):
            raise ValueError("gameId must be a uuid")
        personal = self.type == "MATCH_FOUND"
        if not _UUID.match(self.user_id) and (personal or self.user_id != SYSTEM):
            raise ValueError("userId must be a uuid" + ("" if personal else f' or "{SYSTEM}"'))
        return self

    @property
    def game(self) -> UUID | None:
        """The game; None for an event of type test."""
        return None if self.type == "test" else UUID(self.game_id)


class BroadcastAnswer(Message):
    """What became of the event within the time the call waited."""

    model_config = _example(
        success=True,
        state="delivered",
        eventId=EVENT,
        channels=["game-test-game"],
        timetokens={"game-test-game": "17334108327846111"},
        requestId=REQUEST,
    )

    success: bool = Field(description="Delivered, or kept and going to be")
    state: Literal["waiting", "delivered", "expired"]
    event_id: str
    channels: list[str]
    timetokens: dict[str, str] = Field(description="PubNub's timetoken of each channel's publish")
    request_id: str


class TimerPassMetrics(Message):
    """Milliseconds."""

    lock_acquisition_time: float
    query_time: float = Field(description="Looking for games that are due")
    processing_time: float = Field(description="Moving them on and writing their events")
    broadcast_time: float = Field(description="0: the relay sends events, not this call")


class TimerPassAnswer(Message):
    """One pass of the timer."""

    model_config = _example(
        processed=2,
        errors=0,
        skipped=False,
        executionTime=7.4,
        timestamp="2026-01-05T10:00:00.000Z",
        requestId=REQUEST,
        environment="production",
        version="0.1.0",
        metrics={"lockAcquisitionTime": 0.1, "queryTime": 0.4, "processingTime": 5.2, "broadcastTime": 0},
    )

    processed: int = Field(description="Games moved on, or given their grace period")
    errors: int = Field(description="Games that could not be moved and were set aside")
    skipped: bool = Field(
        description="Nothing was done: another pass is at work, or the timer is switched off"
    )
    execution_time: float = Field(description="Milliseconds")
    timestamp: str
    request_id: str
    environment: str
    version: str
    message: str | None = Field(default=None, description="Why nothing was done")
    metrics: TimerPassMetrics


class GameRequest(Message):
    """Which game."""

    model_config = _example(gameId=GAME)

    game_id: UUID


class TimerAnswer(Message):
    """A game's clock. Times in whole seconds."""

    model_config = _example(
        timeRemaining=42,
        phaseDuration=60,
        phaseExpiresAt="2026-01-05T10:01:00.000Z",
        serverTime="2026-01-05T10:00:18.000Z",
        phase="drawing",
    )

    time_remaining: int
    phase_duration: int | None = Field(description="Null in a phase without a duration")
    phase_expires_at: str | None = Field(description="The deadline; null where there is none")
    server_time: str
    phase: Phase


class EventsRequest(Message):
    """Which events of which game."""

    model_config = _example(gameId=GAME, after=7)

    game_id: UUID
    after: int = Field(default=0, ge=0, le=2**53, strict=True, description="The last seq heard")
    limit: int = Field(default=100, ge=1, le=100, strict=True, description="Most events in the answer")


class PastEvent(Message):
    """An event and what became of it."""

    state: State = Field(description="Whether PubNub has it: waiting, delivered, dead (given up), expired")
    event: dict[str, Any] = Field(description="The message, whole, as published")


class EventsAnswer(Message):
    """A game's events after a seq, in order."""

    model_config = _example(
        gameId=GAME,
        events=[
            {
                "state": "delivered",
                "event": {
                    "type": "timer_expired",
                    "gameId": GAME,
                    "userId": "system",
                    "timestamp": 1767607260000,
                    "version": "2.0.0",
                    "data": {"expiredPhase": "drawing", "nextPhase": "voting"},
                    "eventId": EVENT,
                    "occurredAt": "2026-01-05T10:01:00.001Z",
                    "requestId": REQUEST,
                    "seq": 8,
                    "after": 7,
                },
            }
        ],
        lastSeq=8,
        more=False,
        complete=True,
        serverTime="2026-01-05T10:01:03.000Z",
    )

    game_id: str
    events: list[PastEvent]
    last_seq: int = Field(description="The highest seq the game has")
    more: bool = Field(description="Ask again, with after set to the last seq of this answer")
    complete: bool = Field(description="False: the oldest events asked for are no longer kept")
    server_time: str


class AccessAnswer(Message):
    """A PubNub access token, bound to the player's id as PubNub's user id."""

    model_config = _example(
        token="qEF2AkF0GmFtet9DdHRsGDxDcmVz...",  # noqa: S106
        userId=PLAYER,
        channels=[f"game-{GAME}", f"presence-{GAME}", f"user-{PLAYER}"],
        ttl=60,
        expiresAt="2026-01-05T11:00:00.000Z",
    )

    token: str
    user_id: str
    channels: list[str] = Field(description="What the token lets the player read")
    ttl: int = Field(description="Minutes")
    expires_at: str


class SystemCheck(Message):
    """One thing that was looked at; more numbers may stand beside."""

    model_config = ConfigDict(extra="allow")

    healthy: bool
    status: Literal["ok", "warning", "failing"]
    said: str
    action: str | None
    since: str | None
    latency_ms: float | None


class HealthAnswer(Message):
    """What was looked at and how it fares; `sketchy health --json` prints the same shape."""

    model_config = _example(
        status="healthy", checks={}, version="0.1.0", timestamp="2026-01-05T10:00:00.000Z"
    )

    status: Literal["healthy", "unhealthy"]
    checks: dict[str, SystemCheck]
    version: str
    timestamp: str


class ErrorDetail(Message):
    """One field that is wrong."""

    field: str
    problem: str


class ErrorBody(Message):
    """What went wrong."""

    code: str = Field(description="Stable, for programs")
    message: str = Field(description="For people")
    request_id: str
    details: list[ErrorDetail] | None = None


class ErrorAnswer(Message):
    """Every error."""

    model_config = _example(
        error={"code": "unauthorized", "message": "a bearer token is needed", "requestId": REQUEST}
    )

    error: ErrorBody
