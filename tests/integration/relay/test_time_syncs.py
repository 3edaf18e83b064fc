"""Time syncs: one to each game that waited through an outage, and to all running games if so flagged."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg

from sketchy_orchestration.database import games
from sketchy_orchestration.domain.lanes import lane_of
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import outcomes, running, sent, until, write_event


def game_in_drawing(connection: psycopg.Connection) -> UUID:
    """A running game of ours with 30 s left of its drawing."""
    game = uuid4()
    connection.execute(
        """
        insert into public.games (id, prompt, status, created_at, started_at, drawing_started_at,
                                  current_phase_duration, phase_expires_at)
        values (%s, 'a cat', 'drawing', now() - interval '2 min', now() - interval '1 min',
                now() - interval '30 s', 60, now() + interval '30 s')
        """,
        [game],
    )
    connection.execute(
        """
        insert into orchestration.live_games (game_id, phase, deadline)
        select id, 'drawing', phase_expires_at from public.games where id = %s on conflict do nothing
        """,
        [game],
    )
    return game


def syncs(publisher: MemoryPublisher, game: UUID) -> list[dict[str, object]]:
    return [
        dict(each.message)
        for each in sent(publisher)
        if each.channel == f"game-{game}" and each.message["type"] == "server_timer_sync"
    ]


class Unlucky(MemoryPublisher):
    """Fails the first time sync."""

    async def publish(self, channel: str, message: Any, **options: Any) -> Any:
        if message["type"] == "server_timer_sync" and not self.unlucky:
            self.unlucky = True
            self.answer(503, channel=channel)
        return await super().publish(channel, message, **options)

    unlucky = False


async def test_after_an_outage_each_game_concerned_hears_the_time_once_and_last(
    settings: Settings, connection: psycopg.Connection
) -> None:
    waited, quiet, over = game_in_drawing(connection), game_in_drawing(connection), uuid4()
    publisher = Unlucky()
    connection.execute("update orchestration.flags set enabled = false where name = 'pubnub_broadcasting'")
    async with running(settings, publisher) as relay:
        for _ in range(3):
            write_event(connection, waited)
            write_event(connection, over)
        await until(lambda: relay.tally.sequenced == 6)
        connection.execute("update orchestration.flags set enabled = true where name = 'pubnub_broadcasting'")
        await until(lambda: bool(syncs(publisher, waited)))
        write_event(connection, waited)
        await until(lambda: outcomes(connection) == {"delivered": 7})
        assert relay.tally.syncs == 1
    (sync,) = syncs(publisher, waited)
    data = sync["data"]
    assert isinstance(data, dict)
    assert (data["phase"], data["phaseDuration"]) == ("drawing", 60)
    assert 20 <= data["timeRemaining"] <= 30
    assert {"phaseStartedAt", "phaseExpiresAt", "serverTime"} <= data.keys()
    assert "seq" not in sync
    of_game = [each.message["type"] for each in sent(publisher) if each.channel == f"game-{waited}"]
    assert of_game[:4] == ["MATCH_FOUND"] * 3 + ["server_timer_sync"]
    assert syncs(publisher, quiet) == []
    assert syncs(publisher, over) == []
    assert not [each for each in publisher.accepted if each.store and "seq" not in each.message]


async def test_who_takes_over_after_an_outage_tells_the_time_to_games_that_waited_through_it(
    settings: Settings, connection: psycopg.Connection
) -> None:
    waited, quiet = game_in_drawing(connection), game_in_drawing(connection)
    publisher = MemoryPublisher()
    write_event(connection, waited)
    connection.execute("update orchestration.circuit set since = clock_timestamp()")
    write_event(connection, quiet)
    async with running(settings, publisher) as relay:
        await until(lambda: outcomes(connection) == {"delivered": 2})
        await until(lambda: relay.tally.syncs == 1)
    assert (len(syncs(publisher, waited)), syncs(publisher, quiet)) == (1, [])


async def test_when_the_flag_is_on_all_running_games_hear_the_time_again_and_again(
    settings: Settings, connection: psycopg.Connection
) -> None:
    games = [game_in_drawing(connection) for _ in range(3)]
    connection.execute(
        "update orchestration.flags set enabled = true, value = 0.5 where name = 'timer_sync_seconds'"
    )
    publisher = MemoryPublisher()
    async with running(settings, publisher):
        await until(lambda: all(len(syncs(publisher, game)) >= 2 for game in games))


async def test_on_demand_running_games_hear_the_time_once_whoever_holds_them(
    settings: Settings, connection: psycopg.Connection
) -> None:
    first, second = MemoryPublisher(), MemoryPublisher()
    running_games = [game_in_drawing(connection) for _ in range(12)]
    games.sync(connection, None, by="ann", reason="before anybody was there")

    def heard(game: UUID) -> int:
        return len(syncs(first, game)) + len(syncs(second, game))

    async with running(settings, first) as one, running(settings, second) as two:
        await until(lambda: one.gate.open and two.gate.open)
        await until(lambda: all(relay.tenure and relay.tenure.quiet for relay in (one, two)))
        # Until a second after they began to look: nothing that was asked before counts.
        asked = games.sync(connection, [running_games[0], uuid4()], by="ann", reason="a player asks")
        assert asked == 1
        await until(lambda: heard(running_games[0]) == 1)
        assert sum(map(heard, running_games)) == 1
        assert games.sync(connection, None, by="ann", reason="clocks drift") == 12
        await until(lambda: [heard(game) for game in running_games] == [2] + [1] * 11)
    acts = connection.execute(
        "select game_id, reason from orchestration.operator_actions where action = 'sync' order by id"
    ).fetchall()
    assert acts[1:] == [(running_games[0], "a player asks"), (None, "clocks drift")]


def test_the_lane_of_a_game_is_the_same_everywhere(connection: psycopg.Connection) -> None:
    drawn = [uuid4() for _ in range(200)]
    rows = connection.execute("select orchestration.lane_of(g) from unnest(%s::uuid[]) g", [drawn]).fetchall()
    assert [row[0] for row in rows] == [lane_of(game) for game in drawn]
