"""The fan-out shift with the real publisher and the local PubNub."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import structlog

from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.pubnub.keyset import KeysetError
from sketchy_orchestration.realtime import relay
from sketchy_orchestration.realtime.passes import fanout_pass
from sketchy_orchestration.realtime.shift import EndReason, ShiftKind, new_identity, start_shift
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import outcomes, until, write_event


@pytest.fixture
def pubnub() -> Iterator[LocalPubNub]:
    with LocalPubNub() as server:
        yield server


@pytest.fixture
def settings(database_url: str, pubnub: LocalPubNub) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database_url,
        pubnub_publish_key=pubnub.publish_key,
        pubnub_subscribe_key=pubnub.subscribe_key,
        pubnub_origin=pubnub.origin,
        pubnub_ssl=False,
    )


async def test_a_shift_publishes_reports_and_leaves_at_once(
    settings: Settings, connection: psycopg.Connection, pubnub: LocalPubNub
) -> None:
    for _ in range(10):
        write_event(connection, uuid4())
    shift = start_shift(new_identity(ShiftKind.fanout, "run-1"), settings)
    await until(lambda: outcomes(connection) == {"delivered": 10})
    shift.stop()
    assert shift.join(3)
    assert (shift.end_reason, shift.error) == (EndReason.stopped, None)
    (report,) = list(shift.reports())
    assert (report.numbers["delivered"], report.numbers["dead"]) == (10, 0)
    assert len(pubnub.record()) == 10
    row = connection.execute(
        "select end_reason, dagster_run_id, report ->> 'delivered' from orchestration.shifts"
    ).fetchone()
    assert row == ("stopped", "run-1", "10")


async def test_a_stopped_shift_waits_for_no_answer(
    settings: Settings, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease's server is frozen: it leaves neither in good order nor after the time for an answer."""
    monkeypatch.setattr(relay, "LEAVE_WITHIN", 60.0)
    shift = start_shift(new_identity(ShiftKind.fanout), settings)
    lanes = "select count(*) from orchestration.lanes where holder is not null"
    await until(lambda: connection.execute(lanes).fetchone() == (32,))
    (server,) = connection.execute(
        "select pid from pg_stat_activity where application_name = 'sketchy relay lease'"
        " and datname = current_database()"
    ).fetchone() or (0,)
    os.kill(server, signal.SIGSTOP)
    try:
        with structlog.testing.capture_logs() as logged:
            shift.stop()
            assert shift.join(4)
    finally:
        os.kill(server, signal.SIGCONT)
    assert (shift.end_reason, shift.error) == (EndReason.stopped, None)
    assert "lanes not given up within 0.6 s" in str(logged)
    row = connection.execute("select end_reason from orchestration.shifts").fetchone()
    assert row == ("stopped",)


async def test_a_shift_that_is_declared_ended_leaves(
    settings: Settings, connection: psycopg.Connection
) -> None:
    shift = start_shift(new_identity(ShiftKind.fanout), settings)
    connection.execute("update orchestration.shifts set ended_at = now(), end_reason = 'silent'")
    await until(lambda: shift.join(0))
    assert shift.end_reason is EndReason.ended_by_supervisor


async def test_a_relieved_shift_leaves_while_its_successor_goes_on(
    settings: Settings, connection: psycopg.Connection
) -> None:
    old = start_shift(new_identity(ShiftKind.fanout), settings)
    new = start_shift(new_identity(ShiftKind.fanout), settings)
    connection.execute(
        "update orchestration.shifts set relieved_by = %s where shift_id = %s",
        [new.identity.shift_id, old.identity.shift_id],
    )
    await until(lambda: old.join(0))
    assert old.end_reason is EndReason.relieved
    for _ in range(64):
        write_event(connection, uuid4())
    await until(lambda: outcomes(connection) == {"delivered": 64})
    new.stop()
    assert new.join(3)


def test_one_pass_sends_what_waits_and_ends(
    settings: Settings, connection: psycopg.Connection, pubnub: LocalPubNub
) -> None:
    for _ in range(20):
        write_event(connection, uuid4())
    numbers = fanout_pass(settings)
    assert (numbers["delivered"], len(pubnub.record())) == (20, 20)
    assert numbers["took_ms"] < 5_000
    assert fanout_pass(settings)["delivered"] == 0


def test_without_keys_nothing_starts(database_url: str) -> None:
    with pytest.raises(KeysetError, match="PUBNUB_PUBLISH_KEY"):
        start_shift(new_identity(ShiftKind.fanout), Settings(_env_file=None, database_url=database_url))
