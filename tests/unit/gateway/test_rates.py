"""Rates are counted per caller in bounded memory."""

from __future__ import annotations

import pytest

from sketchy_orchestration.gateway.callers import Caller, Kind
from sketchy_orchestration.gateway.failures import RequestError
from sketchy_orchestration.gateway.rates import BoundedStorage, Rates, WrongRateError

ANN, BOB = Caller(Kind.player, "ann"), Caller(Kind.player, "bob")


def test_each_caller_has_its_own_share() -> None:
    rates = Rates({Kind.player: "2/minute"})
    for caller in (ANN, ANN, BOB):
        rates.count(caller)
    with pytest.raises(RequestError) as caught:
        rates.count(ANN)
    assert (caught.value.status, caught.value.code) == (429, "too_many_requests")
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
    rates.count(BOB)


@pytest.mark.parametrize("text", ["", "many", "0.5/second", "5/fortnight"])
def test_a_wrong_rate_is_named(text: str) -> None:
    with pytest.raises(WrongRateError, match=r"GATEWAY_PLAYER_RATE is .* 120/minute"):
        Rates({Kind.player: text})


def test_a_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("sketchy_orchestration.gateway.rates.time.time", lambda: now)
    storage = BoundedStorage()
    assert [storage.incr("a", 10), storage.incr("a", 10)] == [1, 2]
    assert storage.get_expiry("a") == 1010.0
    now = 1010.0
    assert storage.get("a") == 0
    assert storage.incr("a", 10) == 1


def test_memory_is_bounded_whoever_calls() -> None:
    storage = BoundedStorage(most=100)
    for number in range(10_000):
        storage.incr(str(number), 60)
    assert storage.reset() == 100


def test_a_counter_can_be_cleared() -> None:
    storage = BoundedStorage()
    storage.incr("a", 60)
    storage.clear("a")
    storage.clear("a")
    assert (storage.get("a"), storage.check()) == (0, True)
