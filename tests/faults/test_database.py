"""Postgres restarts, crashes, has no connection or disk left, is held up: nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application, processes
from sketchy_orchestration.local.postgres import EmbeddedPostgres, cluster
from sketchy_orchestration.local.postgres.folders import delete
from tests.faults.clock import HOUR, WrongClock
from tests.faults.extent import WHOLE, whole_only
from tests.faults.figures import Figures
from tests.faults.load import Load
from tests.faults.scene import RATE, Scene, a_scene

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("database faults")]

WITHIN = 5.0


def delivered_by(scene: Scene, since: float, until: float) -> float:
    """Events delivered between two moments (seconds since 1970)."""
    return scene.number(
        f"""select count(*) from orchestration.outcomes
            where outcome = 'delivered' and at between to_timestamp({since}) and to_timestamp({until})"""
    )


def end(server: EmbeddedPostgres, how: str) -> None:
    """The server goes away and comes back on its port."""
    if how == "kill -9":
        # Every process of it dies, as when the machine does: the postmaster first.
        os.kill(server.start().pid, signal.SIGKILL)
        assert processes.wait_until(lambda: not server.is_alive(), seconds=10)
        server.restart()
    else:
        server.restart(immediate=how == "immediate")


@pytest.mark.parametrize("how", ["fast", "immediate", "kill -9"] if WHOLE else ["kill -9"])
def test_comes_back(own_postgres: EmbeddedPostgres, tmp_path: Path, figures: Figures, how: str) -> None:
    name = f"Postgres restarted: {how}"
    url = own_postgres.start().owner_url()
    with a_scene(url, tmp_path, figures) as scene:
        with scene.load(harmed=True):
            scene.wait_for_more(60)
            began = time.time()
            scene.wait_for_more(int(RATE * 6.5 * 3))
            rate = delivered_by(scene, began, time.time()) / (time.time() - began)
            end(own_postgres, how)
            back = time.time()
            scene.reconnect()
            assert processes.wait_until(lambda: time.time() > back + WITHIN, seconds=10, pause=0.05)
            # The last second of the five: by then it must run as if nothing had been.
            again = delivered_by(scene, back + WITHIN - 1, back + WITHIN)
            late = scene.number(
                """select count(*) from orchestration.live_games
                   where deadline < clock_timestamp() - interval '1 s'"""
            )
        figures.note(name, "throughput before", rate, unit=" events/s")
        figures.note(
            name, "throughput in the fifth second after", 100 * again / rate, 98, unit=" %", at_least=True
        )
        figures.note(name, "games more than a second overdue five seconds after", late, 0)
        scene.workers.wait_for(scene.connection)
        scene.judge(name)


@whole_only
def test_no_connection_to_be_had(own_postgres: EmbeddedPostgres, tmp_path: Path, figures: Figures) -> None:
    """The application takes every connection there is; what we lose then, we get back when there is room."""
    name = "pool exhaustion: no connection to be had for 2 s"
    url = own_postgres.start().owner_url()
    with a_scene(url, tmp_path, figures) as scene, ExitStack() as hogs:
        with scene.load(harmed=True):
            scene.wait_for_more(60)
            with suppress(psycopg.OperationalError):
                while True:
                    hogs.enter_context(psycopg.connect(url, connect_timeout=5))
            scene.connection.execute(
                """select pg_terminate_backend(pid) from pg_stat_activity
                   where application_name like 'sketchy %'"""
            )
            with suppress(psycopg.OperationalError):
                while True:
                    hogs.enter_context(psycopg.connect(url, connect_timeout=5))
            until = time.monotonic() + 2
            processes.wait_until(lambda: time.monotonic() > until, seconds=5)
            hogs.close()
            scene.wait_for_more(80)
        scene.workers.wait_for(scene.connection)
        scene.judge(name)


@whole_only
def test_its_clock_jumps(
    request: pytest.FixtureRequest, tmp_path: Path, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deadlines are on the database's clock, so they jump with it: what is due then moves on, once."""
    name = "the clock of Postgres: an hour on, back, and on again"
    honest = cluster.environment
    with tempfile.TemporaryDirectory(prefix="sketchy-clock-") as folder:
        # Where the account that Postgres runs as can come.
        Path(folder).chmod(0o755)
        clock = WrongClock(Path(folder), 0.0)
        monkeypatch.setattr(cluster, "environment", lambda: {**honest(), **clock.environment})
        server: EmbeddedPostgres = request.getfixturevalue("own_postgres")
        assert clock.is_loaded_by(server.start().pid)
        with a_scene(server.start().owner_url(), tmp_path, figures) as scene:
            # What becomes due by the jump alone has long been without its drawings.
            scene.connection.execute("select orchestration.set_flag('grace_period', 'test', 'test', false)")
            with scene.load():
                scene.wait_for_more(60)
                for ahead in (HOUR, 0.0, HOUR):
                    clock.jump_to(ahead)
                    scene.wait_for_more(100)
            assert scene.number("select extract(epoch from clock_timestamp())") > time.time() + HOUR - 60
            scene.workers.wait_for(scene.connection)
            scene.allow(expired=True)
            scene.judge(name)


def test_a_slow_transaction_of_the_application(scene: Scene) -> None:
    """It holds games for two seconds, and has written an event before all others: nobody else waits."""
    name = "a slow transaction of the application"
    with scene.watching() as watching, psycopg.connect(scene.url) as slow, scene.load() as load:
        scene.wait_for_more(150)
        held = slow.execute(
            "select id from public.games where status in ('briefing', 'voting') limit 5 for update"
        ).fetchall()
        slow.execute("update public.games set prompt = 'a dog' where id = %s", [held[0][0]])
        slow.execute(
            """insert into public.game_participants (game_id, user_id)
               select %s, id from public.users u where not exists (
                   select from public.game_participants p
                   where p.game_id = %s and p.user_id = u.id) limit 1""",
            [held[0][0], held[0][0]],
        )
        until = time.monotonic() + 2
        made = len(watching.latenesses_ms)
        processes.wait_until(lambda: time.monotonic() > until, seconds=5)
        others = len(watching.latenesses_ms) - made
        worst = watching.worst_ms()
        slow.commit()
        assert others >= RATE / 2, f"{others} other games moved on meanwhile, {load.dealt} were dealt"
        scene.figures.note(name, "worst lateness of the others", worst, 100, unit=" ms")
        assert worst <= watching.bound_ms(500)
    scene.judge(name)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A disk of its own, where the account that Postgres runs as can come."""
    folder = Path(tempfile.mkdtemp(prefix="sketchy-disk-"))
    folder.chmod(0o755)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        folder.rmdir()
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607
        folder.rmdir()


def fill(disk: Path) -> Path:
    """Leave not a byte."""
    stuffing = disk / "stuffing"
    with suppress(OSError), stuffing.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    with suppress(OSError), stuffing.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return stuffing


@whole_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.timeout(240)
def test_a_full_disk(figures: Figures, tmp_path: Path) -> None:
    """All of Postgres on a disk that is full for a while: it refuses, or crashes; nothing is lost."""
    name = "the disk of Postgres full"
    with small_disk(400) as disk:
        server = EmbeddedPostgres(disk / "home")
        try:
            url = server.start().owner_url()
            application.install(url)
            migrate_up(url, told=lambda _: None)
            with a_scene(url, tmp_path, figures) as scene:
                with scene.load(rate=40):
                    scene.wait_for_more(100)
                # What is dealt while the disk is full may be refused, or be left to the legacy handler.
                load = Load(url, rate=40).start()
                log = server.start().log
                stuffing = fill(disk)
                full = lambda: "No space left" in log.read_text(errors="replace")  # noqa: E731
                assert processes.wait_until(full, seconds=90, pause=0.1), "it never noticed"
                until = time.monotonic() + 2
                processes.wait_until(lambda: time.monotonic() > until, seconds=5)
                stuffing.unlink()
                if not _answers(url):
                    server.restart(immediate=True)
                scene.reconnect()
                figures.note(name, "games dealt meanwhile", load.stop())
                figures.note(name, "statements of the application refused", len(load.errors))
                with scene.load(rate=40):
                    scene.wait_for_more(100, seconds=60)
                scene.workers.wait_for(scene.connection)
                figures.note(name, "events missing before the reconciler came", len(untold(scene.connection)))
                _repair(scene.connection)
                assert untold(scene.connection) == []
                scene.judge(name)
        finally:
            server.stop()
            delete(disk / "home")


def _answers(url: str) -> bool:
    def try_it() -> bool:
        with suppress(psycopg.Error), psycopg.connect(url, connect_timeout=2) as connection:
            connection.execute("select 1")
            return True
        return False

    return processes.wait_until(try_it, seconds=5, pause=0.2)


# What the application's own rows say happened in our games, and no event tells.
_UNTOLD = """
    with ours as (
        select p.game_id, 'player_joined' as type, p.user_id from public.game_participants p
        union all
        select s.game_id, 'drawing_submitted', s.user_id from public.submissions s
        union all
        select v.game_id, 'vote_cast', v.voter_id from public.votes v
        union all
        select g.id, 'game_completed', null from public.games g where g.status = 'completed'
    )
    select r.game_id::text, r.type from ours r
    join orchestration.enrolments e on e.game_id = r.game_id and e.handler = 'orchestration'
    where not exists (select from orchestration.outbox o where o.game_id = r.game_id and o.type = r.type
                      and o.user_id = coalesce(r.user_id::text, o.user_id))
"""


def untold(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """(game, type) of everything that should have been told and was not."""
    return connection.execute(_UNTOLD).fetchall()


def _repair(connection: psycopg.Connection[Any]) -> None:
    """What the reconciler does every hour: events that a trigger could not write are found."""
    connection.execute("select orchestration.reconcile()")
