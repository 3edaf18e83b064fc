"""Which events must be heard, given what was done."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from sketchy_orchestration.local.players.record import DeedKind, GameRecord, Heard, Rules

Key = tuple[str, str]
"""An event's type and what tells it from others of its type in the same game."""

LAST_PHASES = ("completed", "cancelled")
PATHS = (
    ("waiting", "briefing", "drawing", "voting", "completed"),
    ("waiting", "briefing", "drawing", "voting", "results", "completed"),
)

_BY_DEED = {
    DeedKind.joined: "player_joined",
    DeedKind.readied: "player_ready",
    DeedKind.left: "player_left",
}
ON_PRESENCE = frozenset({"player_joined", "player_left", "connection_status"})


def key(heard: Heard) -> Key:
    """What a message tells of."""
    data = heard.data
    match heard.type:
        case "player_joined" | "player_left" | "player_ready":
            return heard.type, str(data.get("userId") or heard.message.get("userId"))
        case "drawing_submitted":
            return heard.type, str(data.get("submissionId"))
        case "vote_cast":
            return heard.type, f"{heard.message.get('userId')} for {data.get('submissionId')}"
        case "phase_changed":
            return heard.type, f"{data.get('previousPhase')} to {data.get('newPhase')}"
        case "timer_expired":
            return heard.type, str(data.get("expiredPhase"))
        case _:
            return heard.type, ""


def path(record: GameRecord) -> list[str] | None:
    """The phases the game went through by what was heard and read; None when it has not ended.

    Where events were lost, the shortest lawful way that contains everything heard.
    """
    changes = [heard.data for heard in record.heard if heard.type == "phase_changed"]
    told = {str(change.get(name)) for change in changes for name in ("previousPhase", "newPhase")}
    status = record.final.status if record.final is not None else None
    if status == "cancelled" or (status is None and "cancelled" in told):
        came_from = next(
            (str(change.get("previousPhase")) for change in changes if change.get("newPhase") == "cancelled"),
            None,
        )
        way = list(PATHS[1] if "results" in told else PATHS[0])[:-1]
        if came_from in way:
            return [*way[: way.index(came_from) + 1], "cancelled"]
        reached = [phase for phase in way if phase in told] or ["waiting"]
        return [*way[: way.index(reached[-1]) + 1], "cancelled"]
    if status == "completed" or (status is None and "completed" in told):
        return list(PATHS[1] if "results" in told else PATHS[0])
    return None


def expected(record: GameRecord, rules: Rules) -> Counter[Key]:
    """Every event that must be heard on the game's own channel, with how often (once each)."""
    must: Counter[Key] = Counter()
    way = path(record) or []
    for before, after in pairwise(way):
        must["phase_changed", f"{before} to {after}"] += 1
    if not rules.complete:
        return must
    if "completed" in way:
        must["game_completed", ""] += 1
    for deed in record.deeds:
        if deed.kind in _BY_DEED:
            must[_BY_DEED[deed.kind], str(deed.user_id)] += 1
        elif deed.kind is DeedKind.drew:
            must["drawing_submitted", str(deed.submission_id)] += 1
        elif deed.kind is DeedKind.voted:
            must["vote_cast", f"{deed.user_id} for {deed.submission_id}"] += 1
        elif deed.kind is DeedKind.started:
            must["game_started", ""] += 1
    for phase in _ended_by_timer(record, way):
        must["timer_expired", phase] += 1
    return must


def request_ids(record: GameRecord) -> dict[Key, str]:
    """The request id that each event must carry, where the application sent one."""
    carried: dict[Key, str] = {}
    for deed in record.deeds:
        if deed.request_id is None:
            continue
        if deed.kind in _BY_DEED:
            carried[_BY_DEED[deed.kind], str(deed.user_id)] = deed.request_id
        elif deed.kind is DeedKind.drew:
            carried["drawing_submitted", str(deed.submission_id)] = deed.request_id
        elif deed.kind is DeedKind.voted:
            carried["vote_cast", f"{deed.user_id} for {deed.submission_id}"] = deed.request_id
        elif deed.kind is DeedKind.started:
            carried["game_started", ""] = deed.request_id
            carried["phase_changed", "waiting to briefing"] = deed.request_id
    return carried


def _ended_by_timer(record: GameRecord, way: list[str]) -> list[str]:
    causes = {
        str(heard.data.get("previousPhase")): str(heard.data.get("transitionTriggeredBy"))
        for heard in record.heard
        if heard.type == "phase_changed"
    }
    ended = [phase for phase, after in pairwise(way) if after != "cancelled"]
    return [phase for phase in ended if causes.get(phase, "timer") == "timer" and phase != "waiting"]
