"""Dead letters, from the command and from Dagster, with a relay that sends them again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import dagster as dg
import psycopg
import pytest

from sketchy_orchestration.cli.main import main
from sketchy_orchestration.database import dead_letters
from sketchy_orchestration.database.dead_letters import Act, Chosen
from sketchy_orchestration.defs.realtime.dead_letters import dead_letter_discard, dead_letter_replay
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.settings import settings as own_settings
from tests.integration.relay.conftest import by_game, outcomes, running, sent, until, write_event

pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer")


async def command(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `sketchy dead-letters ...` in a process of its own, beside the test's event loop."""
    assert settings.database_url is not None
    environment = {**os.environ, "DATABASE_URL": settings.database_url.get_secret_value()}
    command = [sys.executable, "-m", "sketchy_orchestration.cli.main", "dead-letters", *words]
    return await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def listed(connection: psycopg.Connection, chosen: Chosen | None = None) -> list[dict[str, Any]]:
    return dead_letters.listed(connection, chosen or Chosen())


async def act(connection: psycopg.Connection, action: Act, chosen: Chosen, why: str) -> None:
    done = await asyncio.to_thread(
        dead_letters.act, connection, action, chosen, by="ann", reason=why, dry_run=False
    )
    assert done


def states(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        """select seq, replay_asked_at is not null, replayed_at is not null, discarded_at is not null
           from orchestration.dead_letters order by seq"""
    ).fetchall()


def acts(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        """select action, reason, details ->> 'seq', operator <> '', request_id <> ''
           from orchestration.operator_actions order by id"""
    ).fetchall()


async def kill(
    settings: Settings,
    connection: psycopg.Connection,
    publisher: MemoryPublisher,
    game: UUID,
    seqs: Sequence[int],
) -> None:
    """Five events of a game, of which those die."""
    connection.execute("update orchestration.flags set value = 1 where name = 'fanout_concurrency'")
    for seq in range(1, 6):
        refused = seq in seqs
        async with running(settings, publisher):
            if refused:
                publisher.answer(400, [0, "Invalid JSON", "1"], channel=f"game-{game}")
            write_event(connection, game, data=json.dumps({"n": seq}))
            await until(lambda total=seq: sum(outcomes(connection).values()) == total)


async def test_letters_are_sent_again_in_order_marked_and_on_record(
    settings: Settings, connection: psycopg.Connection
) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    await kill(settings, connection, publisher, game, [2, 3, 5])
    letters = json.loads((await command(settings, "list", "--json", "--since", "1h")).stdout)
    assert [(one["seq"], one["state"], one["reason"]) for one in letters] == [
        (seq, "open", "invalid") for seq in (2, 3, 5)
    ]
    assert listed(connection, Chosen(type="vote_cast")) == listed(connection, Chosen(dead_reason="b")) == []
    publisher.accepted.clear()

    async with running(settings, publisher) as relay:
        asked = ("replay", "--game", str(game), "--reason", "repaired")
        dry = await command(settings, *asked)
        assert (dry.returncode, "nothing was changed" in dry.stdout) == (0, True)
        assert acts(connection) == []
        done = await command(settings, *asked, "--yes", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["accepted"], told["refused"], told["waiting"]) == (3, 0, 0)
        write_event(connection, game)
        await until(lambda: relay.tally.delivered == 1)
    messages = [each.message for each in sent(publisher)]
    assert [(m["seq"], m["after"], m.get("replayed"), m["eventId"]) for m in messages[:3]] == [
        (letter["seq"], after, True, letter["event_id"])
        for letter, after in zip(letters, (1, 1, 4), strict=True)
    ]
    sent_at = connection.execute(
        "select min(extract(epoch from at)) * 1000 from orchestration.operator_actions"
    )
    row = sent_at.fetchone()
    assert row is not None
    assert all(m["timestamp"] >= int(row[0]) for m in messages[:3])  # type: ignore[operator]
    assert by_game(sent(publisher)[3:]) == {str(game): [6]}
    assert states(connection) == [(seq, False, True, False) for seq in (2, 3, 5)]
    assert acts(connection) == [("replay", "repaired", seq, True, True) for seq in ("2", "3", "5")]

    again = await command(settings, "replay", letters[0]["event_id"], "--reason", "once more")
    assert "was sent again at" in again.stdout
    assert len(acts(connection)) == 3
    shown = json.loads((await command(settings, "show", letters[0]["event_id"], "--json")).stdout)
    assert (shown["data"], shown["last_answer"], shown["acts"][0]["reason"]) == (
        {"n": 2},
        "400 Invalid JSON",
        "repaired",
    )


async def test_a_refused_replay_stays_a_letter_and_one_that_fails_is_tried_again(
    settings: Settings, connection: psycopg.Connection
) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    await kill(settings, connection, publisher, game, [1, 2])
    first, second = [one["event_id"] for one in listed(connection)]
    publisher.answer(400, [0, "Invalid JSON again", "1"], channel=f"game-{game}")
    async with running(settings, publisher):
        refused = await command(settings, "replay", str(first), "--reason", "perhaps now")
        assert (refused.returncode, "refused again" in refused.stderr) == (1, True)
        publisher.answer(503, channel=f"game-{game}")
        publisher.answer(413, channel=f"game-{game}")
        await act(connection, Act.replay, Chosen([second]), "and this?")
        await until(lambda: states(connection) == [(1, False, False, False), (2, False, True, False)])
    assert sent(publisher)[-1].message["truncated"] is True
    assert [one["last_answer"] for one in listed(connection)] == ["400 Invalid JSON again"]
    assert publisher.attempts >= 3


async def test_what_is_discarded_is_not_sent_even_if_asked_for_before(
    settings: Settings, connection: psycopg.Connection
) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    await kill(settings, connection, publisher, game, [1, 2])
    publisher.accepted.clear()
    await act(connection, Act.replay, Chosen(over=True), "a")
    assert states(connection) == [(1, True, False, False), (2, True, False, False)]
    done = await command(
        settings, "discard", "--dead-reason", "invalid", "--since", "1h", "--reason", "b", "--yes"
    )
    assert (done.returncode, "2 letters" in done.stdout) == (0, True)
    async with running(settings, publisher) as relay:
        write_event(connection, game)
        await until(lambda: relay.tally.delivered == 1)
    assert by_game(sent(publisher)) == {str(game): [6]}
    assert states(connection) == [(1, False, False, True), (2, False, False, True)]
    assert [row[:2] for row in acts(connection)] == [("replay", "a")] * 2 + [("discard", "b")] * 2


WRONG = [
    (("replay", "--reason", "x"), "name letters by id"),
    (("discard", "nonsense", "--reason", "x"), "no event id"),
    (("discard", str(UUID(int=1)), "--reason", "x"), "no dead letter is"),
    (("discard", "--game-over", "--reason", " "), "a name and a reason"),
    (("list", "--since", "yesterday"), "is no time"),
    (("show", str(UUID(int=1))), "there is no dead letter"),
]


@pytest.fixture
def joined(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    own_settings.cache_clear()
    yield
    own_settings.cache_clear()


def test_what_cannot_be_done_is_said_in_a_line(joined: None, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in WRONG:
        with pytest.raises(SystemExit) as ended:
            main(["dead-letters", *words])
        error = capsys.readouterr().err
        assert (ended.value.code, said in error, error.count("\n")) == (1, True, 1), error


@contextmanager
def relay_beside(settings: Settings, publisher: MemoryPublisher) -> Iterator[None]:
    """A relay in a thread of its own: Dagster's jobs want this one."""
    stop, ready = threading.Event(), threading.Event()

    async def work() -> None:
        async with running(settings, publisher):
            ready.set()
            await until(stop.is_set, limit=60)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        stop.set()
        thread.join(20)


def run(job: dg.JobDefinition, op: str, database_url: str, **config: object) -> dict[str, object]:
    done = job.execute_in_process(
        {"ops": {op: {"config": {"reason": "a test", "by": "ann", **config}}}},
        resources={"postgres": PostgresResource(database_url=database_url)},
    )
    (output,) = done.filter_events(lambda event: event.is_successful_output)
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def test_the_same_as_jobs(settings: Settings, connection: psycopg.Connection, database_url: str) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    asyncio.run(kill(settings, connection, publisher, game, [1, 2, 3]))
    discard, replay = (
        (dead_letter_discard, "discard_dead_letters"),
        (dead_letter_replay, "replay_dead_letters"),
    )
    assert run(*discard, database_url) == {"letters": 3, "dry_run": True}
    with relay_beside(settings, publisher):
        numbers = run(*replay, database_url, game_id=str(game), limit=2, dry_run=False)
    assert numbers == {"letters": 2, "dry_run": False, "accepted": 2, "refused": 0, "waiting": 0}
    assert run(*discard, database_url, dry_run=False)["letters"] == 1
    assert states(connection) == [
        (1, False, True, False),
        (2, False, True, False),
        (3, False, False, True),
    ]
    assert [row[0] for row in acts(connection)] == ["replay", "replay", "discard"]
