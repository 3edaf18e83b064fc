"""Two machines share the work, each with a shift of each kind; one of them is cut off from everything."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.figures import Figures
from tests.faults.namespace import Namespace, NotPossibleError, namespace
from tests.faults.proxy import Proxy
from tests.faults.scene import CONCURRENCY, Scene
from tests.faults.test_network import through
from tests.faults.test_workers import now, taken_over
from tests.faults.workers import Process, holders

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("network faults")]

LANES_MOVE_WITHIN_MS = 2000.0


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of its own, as far as the network goes, and its fan-out shift."""

    cables: Namespace
    relay: Process

    def cut_off(self) -> None:
        """Neither Postgres nor PubNub can be reached from it any more, nor it from them."""
        for number in range(len(self.cables.near)):
            self.cables.pull(number)

    def heal(self) -> None:
        """Its cables are plugged in again."""
        for number in range(len(self.cables.near)):
            self.cables.plug(number)


def host(stack: ExitStack, scene: Scene, cables: Namespace) -> Host:
    """One machine with a timer shift and a fan-out shift; Postgres and PubNub are elsewhere."""
    server = urlsplit(scene.url)
    assert server.hostname is not None
    assert server.port is not None
    postgres = stack.enter_context(Proxy(server.hostname, server.port, listen=cables.near[0]))
    pubnub = stack.enter_context(Proxy("127.0.0.1", scene.pubnub.port, listen=cables.near[1]))
    elsewhere = {"DATABASE_URL": through(scene.url, postgres), "PUBNUB_ORIGIN": pubnub.address}
    scene.workers.start("timer", prefix=cables.prefix, **elsewhere)
    return Host(cables, scene.workers.start("fanout", prefix=cables.prefix, **elsewhere))


def test_a_host_is_cut_off(database_url: str, tmp_path: Path, figures: Figures) -> None:
    name = "two hosts, one cut off"
    with ExitStack() as stack:
        try:
            apart = [stack.enter_context(namespace(number)) for number in (1, 2)]
        except NotPossibleError as why:
            pytest.skip(str(why))
        scene = Scene(database_url, tmp_path, figures)
        stack.callback(scene.close)
        first, second = (host(stack, scene, cables) for cables in apart)
        workers = scene.workers
        stack.callback(workers.close)
        workers.wait_for(scene.connection)
        with workers.without(first.relay):
            with scene.watching() as watching, scene.load():
                scene.wait_for_more(60)
                moment = now(scene)
                first.cut_off()
                # Nobody tells it that its lease is lost, so its log cannot either.
                scene.allow(repeats=CONCURRENCY)
                seconds = taken_over(scene, moment)
                assert holders(scene.connection) == {second.relay.pid: 32}
                scene.wait_for_more(100)
            scene.judge(f"{name}: meanwhile")
            figures.note(name, "lanes taken over after", seconds * 1000, LANES_MOVE_WITHIN_MS, unit=" ms")
            figures.note(name, "worst lateness", watching.worst_ms(), 100, unit=" ms")
            assert seconds * 1000 <= watching.bound_ms(LANES_MOVE_WITHIN_MS)
            assert watching.worst_ms() <= watching.bound_ms(500)

            first.heal()
        workers.wait_for(scene.connection)
        with scene.load():
            scene.wait_for_more(60)
        scene.judge(name)
