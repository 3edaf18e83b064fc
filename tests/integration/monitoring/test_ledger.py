"""Nothing is lost without being noticed: the ledger knows what is settled, what waits, and what neither."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database.monitoring import Accounted
from tests.integration.monitoring.conftest import Facts

_RELAYS_WENT_ON = "update orchestration.lane_progress set cursor = pg_current_snapshot(), waiting_from = null"
_DAY = timedelta(days=1)


def test_what_no_relay_knows_of_any_more_is_lost_and_what_waits_is_not(
    operator: psycopg.Connection, connection: psycopg.Connection, facts: Facts
) -> None:
    facts.event()
    facts.event(age=3 * 3600)
    for age in (60, 3 * 3600):  # of this hour, and of one that has ended
        facts.event(age=age, took=None)
    assert monitoring.accounted(operator, _DAY) == Accounted(written=2, settled=1, unaccounted=0)
    connection.execute("select orchestration.refresh_ledger(now() - interval '4 hours')")
    assert monitoring.accounted(operator, _DAY) == Accounted(written=4, settled=2, unaccounted=0)
    assert monitoring.signals(operator)["ledger_unaccounted", ""] == 0
    connection.execute(_RELAYS_WENT_ON)
    # An hour that did not balance is counted again however long ago it ended.
    assert monitoring.accounted(operator, _DAY) == Accounted(written=4, settled=2, unaccounted=2)
    assert monitoring.signals(operator)["ledger_unaccounted", ""] == 2
    # Who takes the events away takes away no count.
    connection.execute(
        "delete from orchestration.outbox o where not exists"
        " (select from orchestration.outcomes c where c.outbox_id = o.id)"
    )
    assert monitoring.accounted(operator, _DAY) == Accounted(written=4, settled=2, unaccounted=2)


def test_in_a_long_outage_nobody_looks_which_of_very_many_wait(
    operator: psycopg.Connection, connection: psycopg.Connection, facts: Facts
) -> None:
    facts.event(took=None)
    connection.execute(_RELAYS_WENT_ON)
    assert monitoring.accounted(operator, _DAY).unaccounted == 1
    connection.execute(
        "insert into orchestration.outbox (lane, type, data, channels, request_id)"
        " select 0, 'x', '{}', '{x}', 'r' from generate_series(1, 100000)"
    )
    assert monitoring.accounted(operator, _DAY).unaccounted == 0
