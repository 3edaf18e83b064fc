"""The checker finds nothing in a good game, and each broken promise by its name."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from sketchy_orchestration.local.players.checker import Verdict, check
from sketchy_orchestration.local.players.record import Deed, DeedKind, FinalState, Rules
from tests.unit.players.a_game import START, Story, a_good_game, find, iso, say, say_data


def kinds(verdict: Verdict) -> set[str]:
    return {violation.kind for violation in verdict.violations}


@pytest.fixture
def story() -> Story:
    return a_good_game()


def test_a_good_game_breaks_nothing(story: Story) -> None:
    verdict = check(story.record)
    assert verdict.violations == []
    assert verdict.expected == verdict.heard == 18
    assert verdict.repeats == 0


@pytest.mark.parametrize(
    "kind",
    [
        "player_joined",
        "player_ready",
        "game_started",
        "phase_changed",
        "timer_expired",
        "drawing_submitted",
        "vote_cast",
        "game_completed",
    ],
)
def test_any_lost_event_is_found(story: Story, kind: str) -> None:
    lost = story.record.heard[find(story.record, kind)]
    story.record.heard = [heard for heard in story.record.heard if heard.event_id != lost.event_id]
    assert "lost" in kinds(check(story.record))


def test_the_last_event_lost_leaves_no_gap_and_is_found_all_the_same(story: Story) -> None:
    story.record.heard.pop()
    assert kinds(check(story.record)) == {"lost"}


def test_an_event_missing_on_the_presence_channel_only_is_found(story: Story) -> None:
    story.record.heard = [h for h in story.record.heard if not h.channel.startswith("presence-")]
    assert kinds(check(story.record)) == {"lost"}


def test_the_same_event_twice_is_found_and_recognised(story: Story) -> None:
    index = find(story.record, "drawing_submitted")
    story.record.heard.insert(index + 1, story.record.heard[index])
    verdict = check(story.record)
    assert kinds(verdict) == {"doubled"}
    assert verdict.repeats == 1


def test_a_repeat_is_only_counted_where_repeats_are_allowed(story: Story) -> None:
    index = find(story.record, "drawing_submitted")
    story.record.heard.append(story.record.heard[index])
    verdict = check(story.record, Rules(repeats_allowed=True))
    assert verdict.violations == []
    assert verdict.repeats == 1


def test_one_fact_told_as_two_events_is_found_even_where_repeats_are_allowed(story: Story) -> None:
    last = story.record.heard[-1]
    story.record.heard.append(say(last, eventId=str(uuid4()), seq=story.seq + 1, after=story.seq))
    assert kinds(check(story.record, Rules(repeats_allowed=True))) == {"doubled"}


def test_two_events_in_the_wrong_order_are_found(story: Story) -> None:
    heard = story.record.heard
    index = find(story.record, "drawing_submitted")
    heard[index], heard[index + 1] = heard[index + 1], heard[index]
    assert "reordered" in kinds(check(story.record))


def test_an_after_that_does_not_name_the_event_before_is_found(story: Story) -> None:
    index = find(story.record, "vote_cast")
    story.record.heard[index] = say(story.record.heard[index], after=1)
    assert kinds(check(story.record)) == {"gap"}


def test_a_given_up_event_is_counted_where_that_is_allowed(story: Story) -> None:
    index = find(story.record, "player_ready")
    gone = story.record.heard.pop(index)
    story.record.heard[index] = say(story.record.heard[index], after=(gone.seq or 0) - 1)
    assert check(story.record, Rules(given_up_allowed=True)).given_up == 1
    assert "gap" in kinds(check(story.record))


def test_a_transition_heard_before_its_deadline_is_found(story: Story) -> None:
    index = find(story.record, "phase_changed", "drawing")
    early = story.record.heard[index]
    story.record.heard[index] = replace(early, at=START + 20.9)
    assert kinds(check(story.record)) == {"early"}


def test_a_deadline_moved_nearer_by_the_application_is_honoured(story: Story) -> None:
    index = find(story.record, "phase_changed", "drawing")
    story.record.heard[index] = replace(story.record.heard[index], at=START + 10.005)
    story.deed(DeedKind.moved_deadline, START + 2, phase="briefing", deadline=START + 10)
    assert check(story.record).violations == []


def test_a_grace_period_moves_the_deadline_of_drawing(story: Story) -> None:
    sync = say(
        story.record.heard[0],
        type="server_timer_sync",
        eventId=str(uuid4()),
        seq=None,
        after=None,
        data={
            "phase": "drawing",
            "serverTime": iso(START + 81),
            "phaseStartedAt": iso(START + 21),
            "phaseExpiresAt": iso(START + 96),
            "phaseDuration": 60,
            "timeRemaining": 15,
        },
        timestamp=int((START + 81) * 1000),
    )
    index = find(story.record, "vote_cast")
    story.record.heard.insert(index, replace(sync, at=START + 81))
    assert kinds(check(story.record)) == {"early"}, "voting began at 91 s, the grace period lasts until 96 s"


def test_drawing_may_end_at_once_only_when_everybody_has_drawn(story: Story) -> None:
    index = find(story.record, "phase_changed", "voting")
    told = say_data(story.record.heard[index], transitionTriggeredBy="all_submitted")
    story.record.heard[index] = told
    assert kinds(check(story.record)) == {"early"}, "the third player has not drawn"

    third = story.users[2]
    story.record.deeds.append(Deed(DeedKind.left, START + 60, START + 60, user_id=third))
    assert "early" not in kinds(check(story.record)), "but whoever has left is not waited for"


def test_a_wrong_winner_is_found(story: Story) -> None:
    second = story.users[1]
    story.record.heard[-1] = say_data(
        story.record.heard[-1], winner={"userId": second, "username": "player-2"}
    )
    story.record.final = FinalState("completed", second, {})
    assert kinds(check(story.record)) == {"wrong_result"}


def test_a_winner_that_the_database_does_not_know_is_found(story: Story) -> None:
    story.record.final = FinalState("completed", story.users[1], {})
    assert kinds(check(story.record)) == {"wrong_result"}


def test_a_wrong_placement_is_found(story: Story) -> None:
    completed = story.record.heard[-1]
    rows = completed.data["results"]
    assert isinstance(rows, list)
    story.record.heard[-1] = say_data(completed, results=[{**rows[0], "placement": 2}, *rows[1:]])
    assert kinds(check(story.record)) == {"wrong_result"}


def test_a_tie_goes_to_the_earlier_drawing(story: Story) -> None:
    story.record.deeds = [
        deed for deed in story.record.deeds if (deed.kind, deed.user_id) != (DeedKind.voted, story.users[2])
    ]
    completed = story.record.heard[-1]
    rows = completed.data["results"]
    assert isinstance(rows, list)
    story.record.heard[-1] = say_data(completed, results=[{**rows[0], "voteCount": 1}, *rows[1:]])
    assert "wrong_result" not in kinds(check(story.record))


def test_whoever_left_may_be_missing_from_the_results(story: Story) -> None:
    second = story.users[1]
    story.record.deeds.append(Deed(DeedKind.left, START + 110, START + 110, user_id=second))
    completed = story.record.heard[-1]
    rows = completed.data["results"]
    assert isinstance(rows, list)
    story.record.heard[-1] = say_data(completed, results=[rows[0], rows[2]])
    assert kinds(check(story.record)) == {"lost"}, "only its player_left was not told"


def test_a_vote_in_flight_at_the_end_may_count_or_not(story: Story) -> None:
    third = story.users[2]
    story.record.deeds = [
        replace(deed, done=START + 121.1) if (deed.kind, deed.user_id) == (DeedKind.voted, third) else deed
        for deed in story.record.deeds
    ]
    assert check(story.record).violations == []
    completed = story.record.heard[-1]
    rows = completed.data["results"]
    assert isinstance(rows, list)
    story.record.heard[-1] = say_data(completed, results=[{**rows[0], "voteCount": 1}, *rows[1:]])
    assert check(story.record).violations == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timestamp", 1_800_000_000_000.5),
        ("version", "1.0.0"),
        ("requestId", None),
        ("occurredAt", "yesterday"),
        ("seq", "7"),
        ("eventId", None),
        ("gameId", "00000000-0000-4000-8000-00000000dead"),
    ],
)
def test_a_malformed_envelope_is_found(story: Story, field: str, value: object) -> None:
    index = find(story.record, "vote_cast")
    story.record.heard[index] = say(story.record.heard[index], **{field: value})
    assert "malformed" in kinds(check(story.record))


def test_missing_data_fields_are_found(story: Story) -> None:
    index = find(story.record, "phase_changed", "voting")
    heard = story.record.heard[index]
    data = {name: value for name, value in heard.data.items() if name != "gameData"}
    story.record.heard[index] = say(heard, data=data)
    assert "malformed" in kinds(check(story.record))


def test_another_request_id_than_the_one_sent_is_found(story: Story) -> None:
    index = find(story.record, "drawing_submitted")
    story.record.heard[index] = say(story.record.heard[index], requestId="another")
    assert kinds(check(story.record)) == {"malformed"}


def test_an_event_that_nobody_caused_is_found(story: Story) -> None:
    story.record.deeds = [deed for deed in story.record.deeds if deed.kind is not DeedKind.readied]
    assert kinds(check(story.record)) == {"unexpected"}


def test_a_game_that_never_ended_is_found(story: Story) -> None:
    story.record.heard = story.record.heard[: find(story.record, "phase_changed", "voting")]
    story.record.final = FinalState("drawing", None, {})
    story.record.deeds = [
        deed for deed in story.record.deeds if deed.kind not in (DeedKind.drew, DeedKind.voted)
    ]
    story.record.heard = [heard for heard in story.record.heard if heard.type != "drawing_submitted"]
    assert {"unfinished"} <= kinds(check(story.record)) <= {"unfinished", "gap"}


def test_a_failed_statement_of_the_application_is_found(story: Story) -> None:
    story.record.failures.append("voted: deadlock detected")
    assert kinds(check(story.record)) == {"statement_failed"}


def test_a_cancelled_game_needs_no_winner() -> None:
    story = Story(players=2)
    for user in story.users:
        deed = story.deed(DeedKind.joined, START, user_id=user)
        data = {"username": story.name(user), "joinedAt": iso(START), "userId": user, "isReady": False}
        story.tell("player_joined", START, data, user, deed.request_id)
    story.deed(DeedKind.cancelled, START + 1)
    story.phase("waiting", "cancelled", START + 1, None, "application")
    story.record.final = FinalState("cancelled", None, {})
    assert check(story.record).violations == []


def test_the_legacy_handler_is_held_only_to_what_it_promises(story: Story) -> None:
    bare = [
        replace(h, message={k: v for k, v in h.message.items() if k in ("type", "gameId", "userId", "data")})
        for h in story.record.heard
        if h.type in ("phase_changed", "game_completed")
    ]
    story.record.heard = bare
    assert check(story.record, Rules(complete=False)).violations == []
    story.record.heard = bare[1:]
    assert kinds(check(story.record, Rules(complete=False))) == {"lost"}
