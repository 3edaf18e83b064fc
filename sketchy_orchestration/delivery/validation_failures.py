"""Steps that break things on purpose and look whether the system mends itself; and the client's side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg

from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.delivery import emergency
from sketchy_orchestration.delivery.validation import CannotTryError, Check, Faults, Scene, StepFailedError
from sketchy_orchestration.domain.alerting import Rule, Severity
from sketchy_orchestration.domain.validation import Suite
from sketchy_orchestration.monitoring import canary
from sketchy_orchestration.monitoring.alerting import Alerting, policy_of
from sketchy_orchestration.monitoring.rules import rules_of
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.subscriber import Subscriber

BACK_WITHIN = 120.0
"""Seconds in which supervision brings shifts back after a stop is lifted."""

_CANARIES = 10
_HEARD_WITHIN = 30.0


def send(scene: Scene, subjects: list[str]) -> list[int]:
    """Events of type test on channels of their own, through outbox and relay; their ids."""
    with connect(scene.settings, Role.gateway, application_name="sketchy validation") as connection:
        return [
            int(row[0])
            for row in connection.execute(
                """select e.outbox_id from unnest(%s::text[]) s
                   cross join lateral orchestration.accept_event(
                       null, s, 'test', 'validation', '{}', 'validation') e""",
                [subjects],
            )
        ]


def wait_until_delivered(scene: Scene, ids: list[int], seconds: float = 60.0) -> None:
    """Raises StepFailedError when one is not, or has become a dead letter, which is then put away."""
    with connect(scene.settings, Role.operator, application_name="sketchy validation") as connection:

        def outcomes() -> list[str]:
            rows = connection.execute(
                "select outcome from orchestration.outcomes where outbox_id = any (%s)", [ids]
            )
            return [str(row[0]) for row in rows]

        complete = _until(lambda: len(outcomes()) >= len(ids), seconds)
        found = outcomes()
        connection.execute(
            """select orchestration.act_on_dead_letters(
                   'discard', array(select d.event_id from orchestration.dead_letters d
                                    where d.outbox_id = any (%s) and d.discarded_at is null),
                   null, null, null, null, null, false, 'validation', 'made by a validation')""",
            [ids],
        )
    lost = [outcome for outcome in found if outcome != "delivered"]
    if lost or not complete:
        raise StepFailedError(
            f"{found.count('delivered')} of {len(ids)} events were delivered within {seconds:g} s,"
            f" {len(lost)} given up"
        )


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def fault(scene: Scene, **settings: Any) -> Iterator[Faults]:
    """Something wrong with PubNub for the time of the block.

    Raises:
        CannotTryError: this PubNub cannot be broken on purpose.
    """
    if scene.faults is None:
        raise CannotTryError("faults need the local PubNub: a real keyset cannot be broken on purpose")
    number = scene.faults.fault_on(settings)
    try:
        yield scene.faults
    finally:
        scene.faults.fault_off(number)


def reception(scene: Scene) -> str:
    """A client hears events, and hears those sent while its connection was broken."""
    keyset = Keyset.of(scene.settings)
    subject = f"validation-{uuid4()}"

    async def hear() -> str:
        async with Subscriber(keyset, uuid="validation") as subscriber:
            await subscriber.subscribe(f"game-{subject}")
            await asyncio.to_thread(send, scene, [subject])
            await subscriber.next(_HEARD_WITHIN)
            with fault(
                scene, kind="reset-before", operations=["subscribe"], channels=f"*{subject}*", times=5
            ):
                ids = await asyncio.to_thread(send, scene, [subject] * 5)
                for _ in range(len(ids)):
                    await subscriber.next(_HEARD_WITHIN)
            return f"1 event heard, then {len(ids)} more across broken connections"

    return asyncio.run(hear())


def canaries(scene: Scene) -> str:
    """PubNub's own way, from here and back."""

    async def fly() -> canary.Probe:
        async with canary.Canary(Keyset.of(scene.settings), scene.settings.region) as bird:
            return canary.summary([await bird.fly() for _ in range(_CANARIES)])

    probe = asyncio.run(fly())
    if probe.lost:
        raise StepFailedError(f"{probe.lost} of {probe.sent} canaries were lost: {probe.why}")
    scene.numbers["canary_p95_ms"] = probe.p95_ms
    return f"{probe.sent} canaries, p95 {probe.p95_ms:.1f} ms"


def errors_are_retried(scene: Scene) -> str:
    """Half of all publishes fail for a while: every event is delivered all the same."""
    with fault(
        scene, kind="status", operations=["publish"], channels="game-validation-*", share=0.5, seconds=3.0
    ):
        ids = send(scene, [f"validation-{uuid4()}" for _ in range(50)])
        wait_until_delivered(scene, ids)
    return "50 events delivered while every second publish failed, no dead letter"


def outage(scene: Scene) -> str:
    """PubNub is away: the circuit opens, events wait, and afterwards all are delivered."""
    with connect(scene.settings, Role.operator, application_name="sketchy validation") as connection:
        with fault(scene, kind="status", operations=["publish"]):
            ids = send(scene, [f"validation-{uuid4()}" for _ in range(60)])
            opened = _until(lambda: _circuit(connection) != "closed", 30)
        if not opened:
            raise StepFailedError("the circuit did not open while every publish failed")
        wait_until_delivered(scene, ids)
        if not _until(lambda: _circuit(connection) == "closed", 30):
            raise StepFailedError("the circuit did not close after the outage")
    return "the circuit opened; 60 events waited and were delivered afterwards; it closed"


def _circuit(connection: psycopg.Connection[Row]) -> str:
    row = connection.execute("select state from orchestration.circuit where keyset = 'default'").fetchone()
    return str(row[0]) if row else "lost"


def cut_connections(scene: Scene) -> str:
    """Every database session of the shifts is cut: they come back by themselves and events go on."""
    with connect(scene.settings, Role.owner, application_name="sketchy validation") as connection:
        row = connection.execute(
            """select count(*) filter (where pg_terminate_backend(a.pid)) from pg_stat_activity a
               where a.datname = current_database()
                 and (a.application_name like 'sketchy relay%'
                      or a.application_name = 'sketchy timer shift')"""
        ).fetchone()
    cut = int(row[0]) if row else 0
    if not cut:
        raise StepFailedError("no shift had a session to cut: none is at work")
    wait_until_delivered(scene, send(scene, [f"validation-{uuid4()}" for _ in range(10)]))
    return f"{cut} sessions cut; events were delivered afterwards"


def alerts_fire_and_resolve(scene: Scene) -> str:
    """An alert of a rule made for it fires, and resolves when its cause is gone; nobody is told."""
    rule = Rule("validation_probe", Severity.info, "validation_probe", 0.5, (), "A validation is at work")
    # Over soon, so that the step is; other alerts that end meanwhile end a minute earlier.
    policy = replace(policy_of(scene.settings), quiet=timedelta(seconds=1))
    watch = Alerting(scene.settings, rules=[*rules_of(scene.settings), rule], policy=policy)
    seen: list[str] = []
    with connect(scene.settings, Role.operator, application_name="sketchy validation") as connection:

        def look(value: float, wanted: str) -> bool:
            done = watch.evaluate(connection, {("validation_probe", ""): value})
            if done is not None:
                seen.extend(f"fired {name}" for name in done.fired)
                seen.extend(f"resolved {name}" for name in done.resolved)
            return wanted in seen

        if not _until(lambda: look(1.0, "fired validation_probe"), 30):
            raise StepFailedError("the alert did not fire")
        if not _until(lambda: look(0.0, "resolved validation_probe"), 120):
            raise StepFailedError("the alert did not resolve")
    return "the alert fired and resolved"


def rollback_is_rehearsed(scene: Scene) -> str:
    """The emergency stop and its lifting, for real; supervision must bring the shifts back."""
    settings = scene.settings
    with connect(settings, Role.operator, application_name="sketchy validation") as connection:
        if not _kinds_at_work(connection):
            raise CannotTryError("no shift is at work")
        stopped = emergency.emergency_stop(settings, by="validation", reason="rehearsal", release=False)
        scene.numbers["stop_ms"] = max(
            step.at_ms for step in stopped.done if step.name in ("no more transitions", "no more publishes")
        )
        ids = send(scene, [f"validation-{uuid4()}" for _ in range(5)])
        waited = connection.execute(
            "select count(*) from orchestration.sequenced where outbox_id = any (%s)", [ids]
        ).fetchone()
        emergency.lift_stop(settings, by="validation", reason="rehearsal is over")
        if not stopped.ok or waited != (0,):
            raise StepFailedError(f"the stop did not hold: {stopped.markdown('stop')}")
        if not _until(lambda: _kinds_at_work(connection) == 2, BACK_WITHIN):
            raise StepFailedError(f"no supervision brought the shifts back within {BACK_WITHIN:g} s")
    wait_until_delivered(scene, ids)
    stop_ms = scene.numbers["stop_ms"]
    return f"all stood still after {stop_ms:.0f} ms; shifts came back; what waited was delivered"


def _kinds_at_work(connection: psycopg.Connection[Row]) -> int:
    row = connection.execute(
        """select count(distinct kind) from orchestration.shifts
           where ended_at is null and heartbeat_at > clock_timestamp() - interval '3 s'"""
    ).fetchone()
    return int(row[0]) if row else 0


FAILURES = (
    Check("reception", Suite.integration, "Test client-side event reception, reconnection", reception),
    Check("canary", Suite.integration, "PubNub global delivery", canaries),
    Check("errors", Suite.failure, "Verify error handling: publishes that fail", errors_are_retried),
    Check("outage", Suite.failure, "Verify error handling: PubNub away", outage),
    Check("recovery", Suite.failure, "Verify recovery: connections cut", cut_connections),
    Check(
        "alerts", Suite.failure, "Monitoring and alerting functional: fire, resolve", alerts_fire_and_resolve
    ),
    Check("rollback", Suite.failure, "Rollback procedures tested", rollback_is_rehearsed),
)
