"""Every event clients may hear, once: JSON Schema and TypeScript types come from here.

A field without a default is always there; one that may be missing is optional, never null.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sketchy_orchestration.gateway.schemas import Phase

Cause = Literal["timer", "all_submitted", "application", "lobby_expired", "operator", "recovery"]


class Data(BaseModel):
    """The `data` of an event. Moments are ISO 8601 in UTC; clients ignore fields they do not know."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")


class PlayerJoined(Data):
    """A player came into the game, or came back."""

    user_id: str
    username: str | None = None
    avatar_url: str | None = Field(default=None, alias="avatar_url")
    joined_at: str
    is_ready: bool
    selected_booster_pack: str | None = None


class PlayerLeft(Data):
    """A player left the game."""

    user_id: str
    username: str | None = None
    left_at: str
    reason: Literal["disconnect", "quit", "kicked"] | None = None


class PlayerReady(Data):
    """A player is ready, or no longer."""

    user_id: str
    username: str | None = None
    is_ready: bool
    selected_booster_pack: str | None = None


class Participant(Data):
    """One of those who play."""

    user_id: str
    username: str | None = None
    selected_booster_pack: str | None = None


class GameStarted(Data):
    """The lobby is over."""

    started_at: str
    prompt: str
    round_duration: int = Field(description="Seconds of drawing")
    participants: list[Participant]


class GameState(Data):
    """The game as it is after a transition."""

    prompt: str
    max_players: int
    current_players: int
    phase_expires_at: str | None = None


class PhaseChanged(Data):
    """The game is in another phase."""

    new_phase: Phase
    previous_phase: Phase
    phase_started_at: str
    phase_duration: int | None = Field(default=None, description="Seconds")
    phase_data: dict[str, Any] | None = None
    transition_triggered_by: Cause
    game_data: GameState


class TimerSync(Data):
    """The clock as another client sees it."""

    time_remaining: int
    phase: Phase
    server_time: str
    total_duration: int


class ServerTimerSync(Data):
    """The clock as the server sees it; also sent when a deadline moved, as for a grace period."""

    phase: Phase
    phase_started_at: str | None = None
    phase_duration: int = Field(description="Seconds")
    phase_expires_at: str
    server_time: str
    time_remaining: int = Field(description="Seconds")


class TimerExpired(Data):
    """A phase came to its deadline, grace included."""

    expired_phase: Phase
    next_phase: Phase
    expired_at: str
    transition_triggered_by: Cause
    execution_id: str | None = None


class DrawingSubmitted(Data):
    """A drawing is in; once more, under the same id, when it was sent again."""

    user_id: str
    username: str | None = None
    submission_id: str
    submitted_at: str
    element_count: int | None = None
    drawing_time_seconds: float | None = None


class VoteCast(Data):
    """Somebody voted."""

    user_id: str
    voter_username: str | None = None
    submission_id: str
    voted_at: str
    total_votes: int | None = None


class Winner(Data):
    """Who won, and with which drawing."""

    user_id: str
    username: str | None = None
    submission_id: str | None = None


class Result(Data):
    """How one player came off; without a drawing there is no placement."""

    user_id: str
    username: str | None = None
    placement: int | None = None
    vote_count: int


class GameCompleted(Data):
    """The game is over. No winner when nobody voted."""

    completed_at: str
    winner: Winner | None = None
    results: list[Result]


class ConnectionStatus(Data):
    """A player's connection changed."""

    status: str
    user_id: str
    username: str | None = None
    timestamp: int | str


class MatchFound(Data):
    """A game was found for a player; goes to the player's own channel too."""


class Test(Data):
    """For smoke tests."""


EVENTS: dict[str, type[Data]] = {
    "player_joined": PlayerJoined,
    "player_left": PlayerLeft,
    "player_ready": PlayerReady,
    "game_started": GameStarted,
    "phase_changed": PhaseChanged,
    "timer_sync": TimerSync,
    "server_timer_sync": ServerTimerSync,
    "timer_expired": TimerExpired,
    "drawing_submitted": DrawingSubmitted,
    "vote_cast": VoteCast,
    "game_completed": GameCompleted,
    "connection_status": ConnectionStatus,
    "MATCH_FOUND": MatchFound,
    "test": Test,
}
"""The data of each type."""


class Envelope(BaseModel):
    """What every event carries."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    type: str
    game_id: str | None = Field(description="Null for an event of type test")
    user_id: str = Field(description='Whom it is about; "system" for the server')
    timestamp: int = Field(description="Moment of publishing, ms since 1970")
    version: str = Field(description="Of the envelope: 2.0.0")
    event_id: str = Field(description="The same in every repeat of the event")
    occurred_at: str | None = Field(default=None, description="When it happened, ISO 8601 in UTC")
    request_id: str | None = Field(default=None, description="Ties the event to the logs")
    seq: int | None = Field(
        default=None,
        description="Place in the game's order, from 1, without gaps; ephemeral events have none",
    )
    after: int | None = Field(
        default=None, description="The last seq sent before: whoever has not heard it missed something"
    )
    replayed: bool | None = Field(default=None, description="Sent again by an operator")
    truncated: bool | None = Field(
        default=None, description="data is not whole: fetch the event through game-events"
    )
