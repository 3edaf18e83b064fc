from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.circuit import (
    Circuit,
    Conclusion,
    Evidence,
    Report,
    State,
    Thresholds,
    WayOut,
    conclude,
    next_probe,
    opened,
    probe_accepted,
    probe_failed,
    probing,
)
from sketchy_orchestration.domain.publishing import (
    Breakage,
    Verdict,
    of_answer,
    of_breakage,
    of_unsendable,
)

TIMEOUT = of_breakage(Breakage.timeout, "10 s")
BROKEN = of_answer(503, "")
REFUSED = of_unsendable("invalid", "bad")
WRONG_KEY = of_answer(403, {"message": "Forbidden"})
LIMITS = Thresholds(failures=4, refusals=6, games=3, window=30)


def evidence(*failures: str, verdict: Verdict = BROKEN) -> Evidence:
    seen = Evidence(LIMITS)
    for game in failures:
        seen.failed(game, verdict, 0)
    return seen


# --- one relay's way out


def test_nothing_is_known_at_first_and_again_after_a_while() -> None:
    seen = Evidence()
    assert seen.way_out(0) is WayOut.unknown
    seen.accepted("a", 0)
    assert seen.way_out(30) is WayOut.works
    assert seen.way_out(31) is WayOut.unknown


def test_failures_in_a_row_over_several_games_are_an_outage() -> None:
    assert evidence("a", "b", "c").way_out(0) is WayOut.unknown
    seen = evidence("a", "b", "c", "a")
    assert seen.way_out(0) is WayOut.fails
    assert seen.reason() == "server_error"
    # It stays one until something gets through, however long that takes.
    assert seen.way_out(10_000) is WayOut.fails
    seen.accepted("a", 10_000)
    assert seen.way_out(10_000) is WayOut.works


def test_one_game_that_fails_is_no_outage() -> None:
    seen = evidence(*"aabbaabbabab")
    assert seen.way_out(0) is WayOut.unknown
    seen.accepted("c", 0)
    seen.failed("a", TIMEOUT, 0)
    assert seen.way_out(0) is WayOut.works


def test_one_wrong_key_is_enough_but_a_channel_it_may_not_use_is_none() -> None:
    seen = evidence(*"abcdefgh", verdict=WRONG_KEY)
    assert (seen.way_out(0), seen.reason(), seen.others("a", 0)) == (WayOut.unknown, None, (7, 7))
    seen.check_accepted(0)
    assert seen.way_out(0) is WayOut.works
    seen.check_failed(WRONG_KEY, 0)
    assert (seen.way_out(0), seen.reason()) == (WayOut.fails, "credentials")


def test_many_refusals_in_a_row_over_several_games_are_no_coincidence() -> None:
    seen = evidence(*"abcab", verdict=REFUSED)
    assert seen.reason() is None
    seen.failed("c", REFUSED, 0)
    assert seen.reason() == "refusals"
    assert evidence(*"aaaaaaaaaa", verdict=REFUSED).reason() is None


def test_the_reason_of_a_mixed_row_is_one_of_the_moment() -> None:
    seen = evidence("a", "b", "c", "d")
    seen.failed("e", REFUSED, 0)
    assert seen.reason() == "server_error"
    assert evidence("a", "b", "c", "d", verdict=TIMEOUT).reason() == "timeout"


def test_a_check_decides_when_the_games_cannot() -> None:
    seen = evidence("a", "a")
    seen.check_failed(TIMEOUT, 1)
    assert (seen.way_out(1), seen.reason()) == (WayOut.fails, "timeout")
    seen.check_accepted(2)
    assert seen.way_out(2) is WayOut.works
    assert seen.others("a", 2) == (0, 1)


def test_the_others_are_all_games_but_one_within_the_window() -> None:
    seen = Evidence(LIMITS)
    seen.accepted("b", 0)
    seen.failed("c", BROKEN, 20)
    seen.failed("a", BROKEN, 20)
    seen.failed("d", REFUSED, 21)
    assert seen.others("a", 25) == (1, 3)
    assert seen.others("a", 31) == (1, 2)


def test_forgetting_starts_anew() -> None:
    seen = evidence("a")
    seen.check_failed(WRONG_KEY, 0)
    seen.forget()
    assert (seen.way_out(0), seen.reason(), seen.others("b", 0)) == (WayOut.unknown, None, (0, 0))


# --- what the relays conclude together

NOW = datetime(2025, 6, 29, 12, tzinfo=UTC)


def report(way_out: WayOut, since: float = 0, worked: float | None = None) -> Report:
    return Report(
        way_out,
        NOW + timedelta(seconds=since),
        None if worked is None else NOW + timedelta(seconds=worked),
    )


FAILS = report(WayOut.fails)


@pytest.mark.parametrize(
    ("own", "others", "after", "expected"),
    [
        (report(WayOut.works), [report(WayOut.works)], 0, Conclusion.carry_on),
        (report(WayOut.works, worked=0.1), [FAILS], 0.2, Conclusion.carry_on),
        (report(WayOut.works, -60, worked=-0.1), [FAILS], 0.2, Conclusion.check),
        (report(WayOut.unknown), [FAILS], 9, Conclusion.check),
        (FAILS, [], 0, Conclusion.open),
        (FAILS, [FAILS, report(WayOut.fails, -5)], 0, Conclusion.open),
        (FAILS, [FAILS, report(WayOut.works, -60, worked=0.2)], 0.3, Conclusion.give_up_lanes),
        (FAILS, [report(WayOut.works, -60, worked=-0.1)], 0.3, Conclusion.wait),
        (FAILS, [report(WayOut.works, -60)], 0.3, Conclusion.wait),
        (FAILS, [report(WayOut.unknown, -60)], 2.9, Conclusion.wait),
        (FAILS, [report(WayOut.unknown, -60)], 3, Conclusion.open),
        (FAILS, [report(WayOut.works, -60, worked=-0.1)], 3, Conclusion.open),
    ],
)
def test_the_circuit_opens_only_when_no_relay_gets_through(
    own: Report, others: list[Report], after: float, expected: Conclusion
) -> None:
    assert conclude(own, others, NOW + timedelta(seconds=after)) is expected


# --- the keyset's circuit

CLOSED = Circuit(State.closed, NOW, 5)
LIMIT = timedelta(seconds=12)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_it_opens_once() -> None:
    broken = opened(CLOSED, "timeout", NOW)
    assert broken == Circuit(State.open, NOW, 6, "timeout")
    assert opened(broken, "timeout", NOW) is None
    assert next_probe(CLOSED, LIMIT) is None


def test_one_probe_at_a_time_and_only_its_holder_decides() -> None:
    broken = opened(CLOSED, "timeout", NOW)
    assert broken is not None
    assert probing(broken, "a", later(0.2), LIMIT) is None
    half = probing(broken, "a", later(0.25), LIMIT)
    assert half is not None
    assert (half.state, half.epoch, half.probe_holder) == (State.half_open, 7, "a")
    assert half.since == NOW
    assert probing(half, "b", later(1), LIMIT) is None
    assert probe_accepted(half, "b", later(1)) is None
    assert probe_failed(half, "b", "timeout") is None
    assert probe_accepted(half, "a", later(1)) == Circuit(State.closed, later(1), 8)


def test_a_failed_probe_opens_again_and_the_pauses_grow_to_their_bound() -> None:
    circuit = opened(CLOSED, "timeout", NOW)
    at, pauses = NOW, []
    for _ in range(30):
        assert circuit is not None
        due = next_probe(circuit, LIMIT)
        assert due is not None
        pauses.append((due - at).total_seconds())
        half = probing(circuit, "a", due, LIMIT)
        assert half is not None
        circuit, at = probe_failed(half, "a", "server_error"), due
    assert circuit is not None
    assert (circuit.reason, circuit.since, circuit.epoch) == ("server_error", NOW, 6 + 60)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.25, 5.0)
    # The row changes twice for each probe, and once when it opens: less than once a second over a minute.
    assert 1 + 2 * sum(total <= 60 for total in accumulate(pauses)) < 60


def test_a_probe_that_could_not_be_made_leaves_the_reason() -> None:
    half = Circuit(State.half_open, NOW, 7, "credentials", "a", NOW)
    assert probe_failed(half, "a", None) == Circuit(State.open, NOW, 8, "credentials", "a", NOW)


def test_a_probe_whose_holder_died_is_taken_over() -> None:
    half = Circuit(State.half_open, NOW, 7, "timeout", "a", later(10))
    assert probing(half, "b", later(21.9), LIMIT) is None
    taken = probing(half, "b", later(22), LIMIT)
    assert taken is not None
    assert (taken.probe_holder, taken.epoch) == ("b", 8)
    assert probe_accepted(taken, "a", later(23)) is None


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["open", "probe", "ok", "bad"]), st.floats(0, 20))
    )
)
def test_the_epoch_rises_with_every_change_and_never_two_probe(
    steps: list[tuple[str, str, float]],
) -> None:
    circuit, now = CLOSED, NOW
    for who, act, pause in steps:
        now += timedelta(seconds=pause)
        before = circuit
        if act == "open":
            changed = opened(circuit, "timeout", now)
        elif act == "probe":
            changed = probing(circuit, who, now, LIMIT)
        elif act == "ok":
            changed = probe_accepted(circuit, who, now)
        else:
            changed = probe_failed(circuit, who, "timeout")
        if changed is None:
            continue
        circuit = changed
        assert circuit.epoch == before.epoch + 1
        if before.state is State.half_open and circuit.state is State.half_open:
            assert before.probe_at is not None
            assert now - before.probe_at >= LIMIT
        if circuit.state is State.closed:
            assert before.state is State.half_open
            assert before.probe_holder == who
