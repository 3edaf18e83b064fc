import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.publishing import (
    DETAIL_LIMIT,
    ENOUGH_OTHERS,
    LIFETIMES,
    Breakage,
    Fault,
    Waiting,
    attempts_needed,
    expired,
    of_answer,
    of_breakage,
    of_unsendable,
    said,
)

FORBIDDEN = {"message": "Forbidden", "payload": {"channels": ["c"]}, "error": True, "status": 403}


@pytest.mark.parametrize(
    ("status", "body", "fault", "reason"),
    [
        # The keyset
        (400, [0, "Invalid Key", "14820000000000000"], Fault.keyset, "credentials"),
        (400, {"message": "Invalid Subscribe Key", "error": True}, Fault.keyset, "credentials"),
        (400, [0, "Invalid Signature", "1"], Fault.keyset, "credentials"),
        (403, FORBIDDEN, Fault.keyset, "credentials"),
        (403, "<html>Forbidden</html>", Fault.keyset, "credentials"),
        (401, None, Fault.keyset, "credentials"),
        (403, {"message": "Account suspended"}, Fault.keyset, "suspended"),
        (402, {"message": "Payment required"}, Fault.keyset, "suspended"),
        (400, {"message": "Keyset is disabled"}, Fault.keyset, "suspended"),
        (200, [0, "Invalid Key", "1"], Fault.keyset, "credentials"),
        # This event
        (400, [0, "Message Too Large", "1"], Fault.event, "too_large"),
        (400, [0, "Invalid JSON", "1"], Fault.event, "invalid"),
        (400, {"error_message": "Bad channel"}, Fault.event, "invalid"),
        (413, [0, "Message Too Large"], Fault.event, "too_large"),
        (413, "<html>", Fault.event, "too_large"),
        (414, "", Fault.event, "too_large"),
        (431, "", Fault.event, "too_large"),
        # The moment
        (400, "<html>Bad Request</html>", Fault.moment, "refused"),
        (404, "<html>Not Found</html>", Fault.moment, "refused"),
        (408, "", Fault.moment, "timeout"),
        (429, {"message": "Too Many Requests"}, Fault.moment, "throttled"),
        (500, [0, "oops"], Fault.moment, "server_error"),
        (503, "<html>", Fault.moment, "server_error"),
        (599, None, Fault.moment, "server_error"),
        (302, "", Fault.moment, "redirected"),
        (200, "<html>Welcome to the hotel</html>", Fault.moment, "unreadable"),
        (200, [0, "something"], Fault.moment, "unreadable"),
        (204, None, Fault.moment, "unreadable"),
    ],
)
def test_whose_fault_an_answer_is(status: int, body: object, fault: Fault, reason: str) -> None:
    verdict = of_answer(status, body)
    assert (verdict.fault, verdict.reason) == (fault, reason)
    assert str(status) in verdict.detail


@pytest.mark.parametrize("status", [408, 429, 500, 503, 404, 302, 200])
def test_the_wish_to_wait_is_passed_on(status: int) -> None:
    assert of_answer(status, "", retry_after=12).retry_after == 12


@given(st.integers(100, 599), st.text() | st.none() | st.lists(st.text() | st.integers()) | st.integers())
def test_every_answer_has_a_verdict_and_a_short_detail(status: int, body: object) -> None:
    verdict = of_answer(status, body)
    assert verdict.reason
    assert len(verdict.detail) <= DETAIL_LIMIT


@pytest.mark.parametrize("breakage", list(Breakage))
def test_a_request_without_an_answer_is_the_moments_fault(breakage: Breakage) -> None:
    assert of_breakage(breakage, "x" * 1000).fault is Fault.moment
    assert of_breakage(breakage, "").reason == breakage.value


def test_what_cannot_be_sent_is_its_own_fault() -> None:
    assert of_unsendable("not_json", "NaN").fault is Fault.event


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([0, "Invalid Key", "14820000000000000"], "Invalid Key"),
        ({"message": "Forbidden", "error": True}, "Forbidden"),
        ({"status": 1}, '{"status": 1}'),
        ("  two\n words ", "two words"),
        (None, ""),
        (7, "7"),
    ],
)
def test_what_an_error_body_says(body: object, words: str) -> None:
    assert said(body) == words


# --- giving up


def test_three_failures_prove_it_when_everybody_else_gets_through() -> None:
    assert attempts_needed(3, 0, 400) == 3
    assert attempts_needed(5, 0, 400) == 5


def test_few_others_prove_little() -> None:
    assert [attempts_needed(3, 0, tried) for tried in (ENOUGH_OTHERS, 20, 50, 100)] == [15, 7, 5, 4]


@pytest.mark.parametrize(("failed", "tried"), [(0, 0), (0, ENOUGH_OTHERS - 1), (50, 100), (100, 100)])
def test_nothing_is_proven_while_the_others_fail_or_are_unknown(failed: int, tried: int) -> None:
    assert attempts_needed(3, failed, tried) is None


def test_a_storm_asks_for_more_proof() -> None:
    assert attempts_needed(3, 1, 100) == 5
    assert attempts_needed(3, 10, 100) == 7
    assert attempts_needed(3, 40, 100) == 17
    assert attempts_needed(9, 10, 100) == 9


@given(allowed=st.integers(1, 10), tried=st.integers(ENOUGH_OTHERS, 1000), failed=st.integers(1, 1000))
def test_bad_luck_alone_kills_less_than_one_in_a_million(allowed: int, tried: int, failed: int) -> None:
    needed = attempts_needed(allowed, failed, tried)
    if needed is not None:
        assert needed >= allowed
        assert (failed / tried) ** needed <= 1e-6 * (1 + 1e-9)


# --- losing meaning

OLD = 1000.0


def waiting(*types: str, age: float = OLD, user: str = "system") -> list[Waiting]:
    return [Waiting(f"{n}-{type_}", type_, user, age) for n, type_ in enumerate(types)]


def test_overtaken_phases_expire_and_the_newest_does_not() -> None:
    events = waiting("phase_changed", "timer_expired", "phase_changed", "phase_changed", "game_completed")
    assert expired(events) == ["0-phase_changed", "1-timer_expired", "2-phase_changed"]


def test_nothing_expires_that_is_young() -> None:
    assert expired(waiting("phase_changed", "vote_cast", "phase_changed", "connection_status", age=5)) == []


def test_nothing_expires_that_nothing_has_overtaken() -> None:
    assert (
        expired(waiting("game_started", "player_joined", "player_left", "vote_cast", "drawing_submitted"))
        == []
    )


def test_the_fleeting_expires_by_age_alone() -> None:
    assert expired(waiting("connection_status", "timer_sync", "server_timer_sync")) == [
        "0-connection_status",
        "1-timer_sync",
        "2-server_timer_sync",
    ]


def test_readiness_is_replaced_by_the_same_players_newer_one_only() -> None:
    events = [
        Waiting("a", "player_ready", "ann", OLD),
        Waiting("b", "player_ready", "bob", OLD),
        Waiting("c", "player_ready", "ann", OLD),
    ]
    assert expired(events) == ["a"]


def test_joining_and_leaving_count_until_the_game_is_over() -> None:
    assert expired(waiting("player_joined", "player_left", "phase_changed")) == []
    assert expired(waiting("player_joined", "player_left", "game_completed")) == [
        "0-player_joined",
        "1-player_left",
    ]


def test_unknown_types_never_expire() -> None:
    assert expired(waiting("MATCH_FOUND", "invented", "phase_changed", "game_completed", age=1e9)) == []


@given(
    st.lists(
        st.tuples(st.sampled_from([*LIFETIMES, "MATCH_FOUND"]), st.floats(0, 1e6), st.sampled_from("ab"))
    )
)
def test_the_newest_phase_and_the_newest_end_never_expire(drawn: list[tuple[str, float, str]]) -> None:
    events = [Waiting(str(n), type_, user, age) for n, (type_, age, user) in enumerate(drawn)]
    gone = expired(events)
    for lasting in ("phase_changed", "game_completed"):
        newest = [event.event_id for event in events if event.type == lasting][-1:]
        assert not set(newest) & set(gone)
    assert gone == sorted(gone, key=int)
    # A window that leaves out the oldest decides the same about the rest.
    assert expired(events[1:]) == [event_id for event_id in gone if event_id != "0"]
