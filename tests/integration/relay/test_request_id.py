"""One request id, from the caller's header to the message a player hears."""

from __future__ import annotations

import psycopg
import pytest

from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import outcomes, running, sent, until

START = """
    insert into public.games (prompt) values ('a cat') returning id
"""


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ('{"x-request-id": "ticket-4711", "accept": "*/*"}', "ticket-4711"),
        ('{"x-request-id": "not a valid \\u0000 id"}', None),
        ("no json at all", None),
        (None, None),
    ],
)
async def test_log_outbox_and_message_carry_the_same(
    settings: Settings, connection: psycopg.Connection, headers: str | None, expected: str | None
) -> None:
    connection.execute("select orchestration.set_flag('enrolment', 'test', 'test', null, 100)")
    game = connection.execute(START).fetchone()
    with connection.transaction():
        if headers is not None:
            connection.execute("select set_config('request.headers', %s, true)", [headers])
        connection.execute("select public.transition_game_status(%s, 'briefing')", game)
    publisher = MemoryPublisher()
    async with running(settings, publisher):
        await until(lambda: outcomes(connection) == {"delivered": 2})
    ids = {row[0] for row in connection.execute("select request_id from orchestration.transitions")}
    ids |= {row[0] for row in connection.execute("select request_id from orchestration.outbox")}
    ids |= {each.message["requestId"] for each in sent(publisher)}
    assert len(ids) == 1
    assert expected is None or ids == {expected}
    assert len(str(ids.pop())) >= (11 if expected else 36)
