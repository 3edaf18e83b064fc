"""When a phase may end at the earliest, from what was announced and what was moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sketchy_orchestration.local.players.fields import moment
from sketchy_orchestration.local.players.record import DeedKind, GameRecord, Heard

# Statements this close to each other may have committed in either order: then the earlier deadline counts.
_SAME_MOMENT_S = 0.25

TIMED = ("briefing", "drawing", "voting", "results")


@dataclass(frozen=True, slots=True)
class Ending:
    """How one phase ended: heard at, its deadline (both s since the epoch), and by what cause."""

    phase: str
    heard: Heard
    deadline: float | None
    cause: str


def endings(record: GameRecord) -> Iterator[Ending]:
    """Every end of a timed phase that was heard on the game's own channel, once each."""
    told: set[str] = set()
    for heard in record.heard:
        phase = str(heard.data.get("previousPhase"))
        if heard.type != "phase_changed" or phase not in TIMED or phase in told:
            continue
        told.add(phase)
        cause = str(heard.data.get("transitionTriggeredBy"))
        yield Ending(phase, heard, deadline(record, phase), cause)


def deadline(record: GameRecord, phase: str) -> float | None:
    """The last known deadline of a phase; None when nobody said one.

    Each source counts from the moment it held on the database's clock, not from when it was heard: a sync
    that arrives after a move may tell of the time before it.
    """
    known: list[tuple[float, float]] = []
    for deed in record.deeds_of(DeedKind.started, DeedKind.moved_deadline):
        of_phase = "briefing" if deed.kind is DeedKind.started else deed.phase
        if of_phase == phase and deed.deadline is not None:
            known.append((deed.done, deed.deadline))
    for heard in record.heard:
        data = heard.data
        if heard.type == "phase_changed" and data.get("newPhase") == phase:
            game = data.get("gameData")
            until = moment(game.get("phaseExpiresAt")) if isinstance(game, dict) else None
            since = moment(data.get("phaseStartedAt"))
        elif heard.type == "server_timer_sync" and data.get("phase") == phase:
            until, since = moment(data.get("phaseExpiresAt")), moment(data.get("serverTime"))
        else:
            continue
        if until is not None and since is not None:
            known.append((since, until))
    if not known:
        return None
    last = max(known)[0]
    return min(until for since, until in known if since >= last - _SAME_MOMENT_S)
