"""PubNub fails in every way there is while games go on: nothing is lost, nothing given up, all in order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.pubnub.faults import FaultKind
from tests.faults.extent import ROUNDS, WHOLE, whole_only
from tests.faults.scene import CONCURRENCY, Scene, a_scene

pytestmark = [pytest.mark.fault]

OUTAGE_SECONDS = float(os.environ.get("SKETCHY_FAULT_OUTAGE", "3"))
KEY_SECONDS = float(os.environ.get("SKETCHY_FAULT_WRONG_KEY", "3"))

# Each once for a while, on a share of the publishes: what a bad day looks like.
STORM: dict[str, tuple[FaultKind, dict[str, float]]] = {
    "slow": (FaultKind.latency, {"delay": 0.05, "jitter": 0.3}),
    "slower than the limit": (FaultKind.latency, {"delay": 2.3, "share": 0.05}),
    "503": (FaultKind.status, {"status": 503}),
    "429": (FaultKind.rate_limited, {"retry_after": 0.3}),
    "reset": (FaultKind.reset_before, {}),
    "acknowledgement lost": (FaultKind.reset_after, {}),
    "hanging": (FaultKind.hang, {"share": 0.03}),
    "truncated": (FaultKind.truncated, {}),
    "garbage": (FaultKind.garbage, {}),
    "a load balancer's page": (FaultKind.html, {"status": 502}),
    "a byte at a time": (FaultKind.trickle, {"delay": 0.02, "share": 0.1}),
    "heard twice": (FaultKind.duplicate, {}),
}
OUTAGES: dict[str, dict[str, object]] = {
    "status": {"status": 500},
    "hang": {},
    "rate-limited": {"retry_after": 0.5},
    "reset-before": {},
}
# Before it is so old, nothing loses its meaning (the shortest lifetime in domain/publishing.py).
EXPIRES_FROM = 10.0


@pytest.fixture(scope="module")
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """As everywhere, but a publish may take two seconds at most, so that hanging is quickly over."""
    folder = tmp_path_factory.mktemp("pubnub")
    url, figures = request.getfixturevalue("shared_url"), request.getfixturevalue("figures")
    with a_scene(url, folder, figures, PUBNUB_REQUEST_TIMEOUT="2") as made:
        yield made


def circuit(scene: Scene) -> tuple[str, str | None]:
    row = scene.connection.execute("select state, reason from orchestration.circuit").fetchone()
    assert row is not None
    return row[0], row[1]


def closed(scene: Scene) -> bool:
    return circuit(scene)[0] == "closed"


def storm(scene: Scene, what: str) -> None:
    kind, settings = STORM[what]
    scene.pubnub.fault(kind, **{"share": 0.3, **settings})
    scene.wait_for_more(60, seconds=60)
    struck = scene.pubnub.struck()
    scene.pubnub.control.fault_off()
    assert struck > 0
    scene.figures.note(f"storm: {what}", "struck", struck)


@pytest.mark.timeout(100 + 30 * ROUNDS)
@pytest.mark.parametrize(
    "storms", [[what] for what in STORM] if WHOLE else [list(STORM)], ids=list(STORM) if WHOLE else ["all"]
)
def test_storms(scene: Scene, storms: list[str]) -> None:
    with scene.load():
        for _ in range(ROUNDS):
            for what in storms:
                storm(scene, what)
    # What PubNub takes long for is broken off when a lane changes hands meanwhile.
    scene.allow(repeats=CONCURRENCY)
    scene.judge(f"storm: {', '.join(storms)}", seconds=60)


def outage(scene: Scene, name: str, seconds: float, kind: str, **settings: object) -> None:
    """Everything fails so long; the games go on, all of it is heard afterwards."""
    with scene.load():
        scene.wait_for_more(60)
        scene.pubnub.fault(kind, **settings)
        assert processes.wait_until(lambda: circuit(scene)[0] != "closed", seconds=20), circuit(scene)
        moved = scene.number("select count(*) from orchestration.transitions")
        until = time.monotonic() + seconds
        processes.wait_until(lambda: time.monotonic() >= until, seconds=seconds + 1, pause=0.1)
        if kind == "wrong-key":
            assert circuit(scene)[1] == "credentials" or circuit(scene)[0] == "half_open"
        on = scene.number("select count(*) from orchestration.transitions") - moved
        assert on > seconds * 10, "games must go on while PubNub fails"
        scene.figures.note(name, "transitions meanwhile", on)
        scene.pubnub.control.fault_off()
        began = time.monotonic()
        assert processes.wait_until(lambda: closed(scene), seconds=30), circuit(scene)
        scene.figures.note(name, "circuit closed after", time.monotonic() - began, unit=" s")
    scene.allow(expired=seconds >= EXPIRES_FROM)
    scene.judge(name, seconds=60 + seconds / 5)


@pytest.mark.timeout(150 + OUTAGE_SECONDS * 1.5)
@pytest.mark.parametrize("kind", OUTAGES if WHOLE else ["status"])
def test_outage(scene: Scene, kind: str) -> None:
    whole = OUTAGE_SECONDS if kind == "status" else min(OUTAGE_SECONDS, 30.0) / 2
    outage(scene, f"outage: {kind} for {whole:g} s", whole, kind, **OUTAGES[kind])


@whole_only
def test_frozen(scene: Scene) -> None:
    """It takes connections and says nothing; when it wakes, it takes what nobody waits for any more."""
    name = "SIGSTOP of the local PubNub"
    with scene.load():
        scene.wait_for_more(60)
        scene.pubnub.process.send_signal(signal.SIGSTOP)
        assert processes.wait_until(lambda: not closed(scene), seconds=20), circuit(scene)
        scene.pubnub.process.send_signal(signal.SIGCONT)
        assert processes.wait_until(lambda: closed(scene), seconds=30), circuit(scene)
        scene.wait_for_more(60)
    scene.judge(name, seconds=60)


@pytest.mark.timeout(150 + KEY_SECONDS * 1.5)
@pytest.mark.parametrize("kind", ["wrong-key", "403"] if WHOLE else ["wrong-key"])
def test_wrong_key(scene: Scene, kind: str) -> None:
    name = f"wrong key: {kind} for {KEY_SECONDS:g} s"
    if kind == "403":
        body = '{"message":"Forbidden","error":true,"service":"Access Manager","status":403}'
        outage(scene, name, KEY_SECONDS, "status", status=403, body=body)
    else:
        outage(scene, name, KEY_SECONDS, "wrong-key")
