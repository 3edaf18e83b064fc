"""How long an emergency stop takes under load: from the command to the last transition and the last publish.

Shifts run as processes, the command is `sketchy stop --emergency --release` in one more. Both ends are seen
from outside: the last transition by the database, the last publish by the PubNub they publish to.

Run: python -m benchmarks.emergency [--turns N] [--rate GAMES_PER_SECOND]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import EmbeddedPostgres, RunningPostgres
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.local.pubnub import LocalPubNub

_ROW = (
    "| {0.games:,} | {0.moved:,.0f} ms | {0.sent:,.0f} ms | {0.still:,.0f} ms | {0.command:,.0f} ms"
    " | {0.after} | {0.unknown} |"
)


@dataclass(frozen=True)
class Measured:
    """One stop; ms.

    Attributes:
        moved, sent: the last transition and the last publish, since the stop's commit; negative: before it.
        still: from the command's start, that of Python included, to the later of the two.
        command: from its start to its end, the hand-over of the games included.
        after: transitions and publishes later than a second after it. unknown: publishes broken off.
    """

    games: int
    moved: float
    sent: float
    still: float
    command: float
    after: int
    unknown: int


@contextmanager
def shifts(environment: dict[str, str]) -> Iterator[None]:
    """Two of each kind, as processes."""
    words = [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift"]
    started = [
        subprocess.Popen(
            [*words, kind], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for kind in ("timer", "timer", "fanout", "fanout")
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(20)


def gather(connection: psycopg.Connection, rate: int, seconds: float) -> None:
    """So many games a second that end their briefing, for so long."""
    connection.execute("select orchestration.set_flag('enrolment', 'bench', 'bench', null, 100)")
    connection.execute(
        """with made as (insert into public.games (prompt) select 'a cat' from generate_series(1, %s)
                         returning id)
           select count(public.transition_game_status(id, 'briefing')) from made""",
        [int(rate * seconds)],
    )
    connection.execute(
        """update public.games g
           set phase_expires_at = clock_timestamp() + interval '2 s' + n.n * make_interval(secs => %s)
           from (select id, row_number() over (order by id) as n from public.games) n where n.id = g.id""",
        [1 / rate],
    )


def turn(postgres: RunningPostgres, number: int, rate: int) -> Measured:
    """One stop in the middle of the load."""
    name = f"stop_{number}"
    url = postgres.create_database(name)
    application.install(url)
    migrate_up(url, told=lambda _: None)
    with LocalPubNub() as pubnub, psycopg.connect(url, autocommit=True) as connection:
        pubnub.faults.on("latency", operations=("publish",), delay=0.03, jitter=0.05)
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "PUBNUB_ORIGIN": pubnub.origin,
            "PUBNUB_SSL": "false",
            "PUBNUB_PUBLISH_KEY": pubnub.publish_key,
            "PUBNUB_SUBSCRIBE_KEY": pubnub.subscribe_key,
        }
        with shifts(environment):
            count = "select count(*) from orchestration.shifts where heartbeat_at > now() - interval '3 s'"
            assert wait_until(lambda: _one(connection, count) == 4, seconds=60)
            gather(connection, rate, 20)
            moved = "select count(*) from orchestration.transitions where cause = 'timer'"
            assert wait_until(lambda: _one(connection, moved) > 4 * rate, seconds=60)
            began, began_at = time.monotonic(), time.time()
            words = ["stop", "--emergency", "--release", "--reason", "measured"]
            subprocess.run(
                [sys.executable, "-m", "sketchy_orchestration.cli.main", *words],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            command = (time.monotonic() - began) * 1000
            gone = "select count(*) from orchestration.live_games"
            assert wait_until(lambda: _one(connection, gone) == 0, seconds=10)
        at = _one(connection, "select extract(epoch from at)::float8 from orchestration.emergency_stops")
        last = _one(
            connection,
            "select extract(epoch from max(at))::float8 from orchestration.transitions where cause = 'timer'",
        )
        accepted = [int(each.timetoken) / 1e7 for each in pubnub.record()]
        after = sum(moment > at + 1 for moment in accepted) + int(last > at + 1)
        unknown = "select count(*) from orchestration.attempts where verdict = 'unknown'"
        games = _one(connection, "select games_released from orchestration.emergency_stops")
        result = Measured(
            int(games),
            (last - at) * 1000,
            (max(accepted) - at) * 1000,
            (max(last, at, *accepted) - began_at) * 1000,
            command,
            after,
            int(_one(connection, unknown)),
        )
    postgres.drop_database(name)
    return result


def _one(connection: psycopg.Connection, text: str) -> float:
    row = connection.execute(text).fetchone()
    assert row is not None
    return float(row[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--rate", type=int, default=100, help="games a second that end a phase, two events each"
    )
    options = parser.parse_args()
    print(
        f"Emergency stop under {options.rate} transitions a second: the first two columns since its commit,"
    )
    print("still and command since the start of `sketchy stop`")
    print("| games released | last transition | last publish | still | command | later than 1 s | unknown |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="sketchy-stop-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "home") as postgres:
            for number in range(options.turns):
                print(_ROW.format(turn(postgres, number, options.rate)), flush=True)


if __name__ == "__main__":
    main()
