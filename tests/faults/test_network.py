"""The way between workers and Postgres, or PubNub, breaks: cut, silent, slow, truncated."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.realtime.lease import LeaseTimes
from tests.faults.extent import whole_only
from tests.faults.figures import Figures
from tests.faults.namespace import NotPossibleError, namespace
from tests.faults.proxy import Proxy
from tests.faults.scene import CONCURRENCY, Scene
from tests.faults.test_workers import now, taken_over
from tests.faults.workers import Process

pytestmark = [pytest.mark.fault]

SENDS_WITHIN_MS = 1000 * LeaseTimes().send_within
"""After it sent its last answered ping a relay starts no attempt any more: *Alone* in its own words."""


def through(url: str, proxy: Proxy) -> str:
    """The same database, by way of the proxy."""
    parts = urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{credentials}@{proxy.address}"))


@contextmanager
def scene_behind(
    url: str, folder: Path, figures: Figures
) -> Iterator[tuple[Scene, Proxy, Proxy, tuple[Process, Process]]]:
    """One shift of each kind reaches Postgres and PubNub through proxies, the others directly."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    scene = Scene(url, folder, figures)
    try:
        with Proxy(parts.hostname, parts.port) as postgres, Proxy("127.0.0.1", scene.pubnub.port) as pubnub:
            scene.workers.start("timer")
            scene.workers.start("fanout")
            behind = {
                "DATABASE_URL": through(url, postgres),
                "PUBNUB_ORIGIN": pubnub.address,
                "PUBNUB_REQUEST_TIMEOUT": "3",
            }
            timer = scene.workers.start("timer", **behind)
            relay = scene.workers.start("fanout", **behind)
            scene.workers.wait_for(scene.connection)
            try:
                yield scene, postgres, pubnub, (timer, relay)
            finally:
                postgres.heal()
                scene.workers.close()
    finally:
        scene.close()


@pytest.fixture(scope="module")
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Scene, Proxy, Proxy, tuple[Process, Process]]]:
    url, figures = request.getfixturevalue("shared_url"), request.getfixturevalue("figures")
    with scene_behind(url, tmp_path_factory.mktemp("network"), figures) as made:
        yield made


Behind = tuple[Scene, Proxy, Proxy, tuple[Process, Process]]


@contextmanager
def much_to_send(scene: Scene) -> Iterator[None]:
    """The rate is limited, so that each relay has more in memory than it may send."""
    change = "update orchestration.flags set enabled = %s, value = %s where name = %s"
    for change_to in ((True, 60, "publish_rate"), (True, 10 * CONCURRENCY, "fanout_concurrency")):
        scene.connection.execute(change, change_to)
    scene.allow(repeats=10 * CONCURRENCY)
    try:
        yield
    finally:
        scene.connection.execute(change, [True, 0, "publish_rate"])
        scene.connection.execute(change, [True, CONCURRENCY, "fanout_concurrency"])


def test_partition_from_postgres(behind: Behind) -> None:
    """Cut off from Postgres but not from PubNub: it loses its lanes, and sends nothing after the bound."""
    scene, postgres, pubnub, (_, relay) = behind
    name = "partition of one shift of each kind from Postgres"
    workers = scene.workers
    with scene.watching() as watching, scene.load(), much_to_send(scene):
        scene.wait_for_more(60)
        moment, cut = now(scene), time.monotonic()
        postgres.black_hole()
        with workers.without(relay):
            seconds = taken_over(scene, moment)
            scene.figures.note(name, "lanes taken over after", seconds * 1000, 2000, unit=" ms")
            assert seconds < 10
            scene.wait_for_more(100)
            silent = pubnub.last_request - cut
            scene.figures.note(
                name, "last attempt of the relay cut off after", silent * 1000, 1000, unit=" ms"
            )
            # Started within the bound; the way to the proxy takes as long as the machine takes for anything.
            assert silent * 1000 <= watching.bound_ms(SENDS_WITHIN_MS)
            postgres.heal()
        workers.wait_for(scene.connection)
        scene.wait_for_more(40)
    scene.figures.note(name, "worst lateness", watching.worst_ms(), 100, unit=" ms")
    assert watching.worst_ms() <= watching.bound_ms(500)
    scene.judge(name)


def test_connections_to_postgres_cut(behind: Behind, chance: random.Random) -> None:
    scene, postgres, _, _ = behind
    name = "connections to Postgres cut, again and again"
    with scene.load():
        for _ in range(4):
            scene.wait_for_more(chance.randrange(20, 60))
            assert postgres.cut() > 0
        postgres.truncate = 7
        scene.wait_for_more(60)
    scene.workers.wait_for(scene.connection)
    scene.judge(name)


@whole_only
def test_sessions_ended_by_the_server(behind: Behind) -> None:
    scene, _, _, _ = behind
    name = "every session ended by the server"
    with scene.load():
        for _ in range(2):
            scene.wait_for_more(40)
            ended = scene.connection.execute(
                """select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = current_database() and application_name like 'sketchy %'"""
            ).rowcount
            assert ended >= 1
        scene.wait_for_more(60)
    scene.workers.wait_for(scene.connection)
    scene.judge(name)


@whole_only
def test_slow_way_to_postgres(behind: Behind) -> None:
    scene, postgres, _, _ = behind
    name = "the way to Postgres slow for one shift of each kind"
    with scene.watching() as watching, scene.load():
        scene.wait_for_more(20)
        postgres.delay = 0.03
        scene.wait_for_more(120)
        postgres.heal()
        scene.wait_for_more(20)
    scene.figures.note(name, "worst lateness", watching.worst_ms(), unit=" ms")
    scene.judge(name)


@whole_only
def test_way_to_pubnub(behind: Behind) -> None:
    """Only one relay's own way out fails: it leaves the lanes to the other, and no circuit opens."""
    scene, _, pubnub, (_, relay) = behind
    name = "one relay's way to PubNub: truncated, cut, silent"
    with scene.load():
        for break_it in (lambda: setattr(pubnub, "truncate", 20), pubnub.cut, pubnub.black_hole):
            scene.wait_for_more(30)
            break_it()
        workers = scene.workers
        with workers.without(relay):
            taken_over(scene, now(scene))
            opened = scene.number("select count(*) from orchestration.circuit where state <> 'closed'")
            assert opened == 0
            scene.wait_for_more(100)
            pubnub.heal()
        assert processes.wait_until(lambda: workers.lanes_held(scene.connection), seconds=40), workers.said()
    scene.judge(name)


@whole_only
def test_partition_in_a_network_namespace(database_url: str, tmp_path: Path, figures: Figures) -> None:
    """The cable to Postgres is pulled, that to PubNub is not."""
    name = "network namespace: the cable to Postgres pulled"
    parts = urlsplit(database_url)
    assert parts.hostname is not None
    assert parts.port is not None
    with ExitStack() as stack:
        try:
            apart = stack.enter_context(namespace())
        except NotPossibleError as why:
            pytest.skip(str(why))
        scene = Scene(database_url, tmp_path, figures)
        stack.callback(scene.close)
        postgres = stack.enter_context(Proxy(parts.hostname, parts.port, listen=apart.near[0]))
        pubnub = stack.enter_context(Proxy("127.0.0.1", scene.pubnub.port, listen=apart.near[1]))
        elsewhere = {"DATABASE_URL": through(database_url, postgres), "PUBNUB_ORIGIN": pubnub.address}
        workers = scene.workers
        workers.start("timer")
        workers.start("fanout")
        cut_off = workers.start("fanout", prefix=apart.prefix, **elsewhere)
        workers.start("timer", prefix=apart.prefix, **elsewhere)
        workers.wait_for(scene.connection)
        with scene.watching() as watching, scene.load(), much_to_send(scene):
            scene.wait_for_more(60)
            moment, pulled = now(scene), time.monotonic()
            apart.pull(0)
            with workers.without(cut_off):
                seconds = taken_over(scene, moment)
                figures.note(name, "lanes taken over after", seconds * 1000, 2000, unit=" ms")
                assert seconds < 10
                scene.wait_for_more(100)
                silent = pubnub.last_request - pulled
                figures.note(name, "last attempt of the relay cut off after", silent * 1000, 1000, unit=" ms")
                assert silent * 1000 <= watching.bound_ms(SENDS_WITHIN_MS)
                apart.plug(0)
            workers.wait_for(scene.connection)
        figures.note(name, "worst lateness", watching.worst_ms(), 100, unit=" ms")
        scene.judge(name)
