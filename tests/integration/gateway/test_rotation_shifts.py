"""docs/rotate-secrets.md, carried out for shifts: logins and PubNub's secret key change while events flow."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig
from tests.integration.gateway.serving import (
    ACCESS,
    BROADCAST,
    SERVICE_KEY,
    SMOKE,
    Serving,
    World,
    serving,
    settings_for,
)
from tests.integration.gateway.test_rotation import PAGE, SQL_BLOCK, calling, more

_SHIFTS = {"timer": "timer", "relay": "fanout"}


class Change:
    """Two generations of logins and secret keys; the page's own statements make and drop the logins."""

    def __init__(self, database_url: str, pubnub: LocalPubNub, connection: psycopg.Connection) -> None:
        self._url, self._pubnub, self._connection = database_url, pubnub, connection
        self._mark = uuid.uuid4().hex[:10]
        self.keys = {"a": "first-secret-key-of-the-keyset", "b": "second-secret-key-of-the-keyset"}
        create, used, drop = SQL_BLOCK.findall(PAGE.read_text(encoding="utf-8"))
        self._statements = {"create": create, "used": used, "drop": drop}

    def run(self, what: str, role: str, generation: str) -> int | None:
        """One statement of the page, for this role and login; the number it answers with."""
        text = self._statements[what].replace("'NEW'", f"'{self._password(generation)}'")
        for letter in "ab":
            text = text.replace(f"gateway_{letter} ", f"{self._login(role, generation)} ")
            text = text.replace(f"gateway_{letter};", f"{self._login(role, generation)};")
            text = text.replace(f"'gateway_{letter}'", f"'{self._login(role, generation)}'")
        text = text.replace("sketchy_gateway", f"sketchy_{role}")
        found = self._connection.execute(text)  # type: ignore[arg-type]  # the page's own text
        return int(found.fetchone()[0]) if found.description else None  # type: ignore[index]

    def _login(self, role: str, generation: str) -> str:
        return f"{role}_{self._mark}_{generation}"

    def _password(self, generation: str) -> str:
        return f"password-{self._mark}-{generation}"

    def url(self, role: str, generation: str) -> str:
        parts = urlsplit(self._url)
        account = f"{self._login(role, generation)}:{self._password(generation)}"
        return urlunsplit(parts._replace(netloc=f"{account}@{parts.hostname}:{parts.port}"))

    def at_work(self, role: str, generation: str) -> bool:
        return bool(self.run("used", role, generation))

    @contextmanager
    def shifts(self, generation: str, folder: Path) -> Iterator[None]:
        """A shift of each kind with this generation's login and key; told to stop at the end."""
        environment = {
            "PATH": os.environ["PATH"],
            "PUBNUB_ORIGIN": self._pubnub.origin,
            "PUBNUB_PUBLISH_KEY": self._pubnub.publish_key,
            "PUBNUB_SUBSCRIBE_KEY": self._pubnub.subscribe_key,
            "PUBNUB_SECRET_KEY": self.keys[generation],
            "PUBNUB_SSL": "false",
        }
        with ExitStack() as stack:
            for role, kind in _SHIFTS.items():
                log = folder / f"{kind}-{generation}.log"
                process = subprocess.Popen(
                    [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift", kind],
                    env={**environment, f"{role.upper()}_DATABASE_URL": self.url(role, generation)},
                    stdout=stack.enter_context(log.open("wb")),
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                )
                stack.callback(processes.stop, process)  # type: ignore[arg-type]  # bytes or text is the same
            yield

    @contextmanager
    def gateway(self, generation: str) -> Iterator[Serving]:
        settings = settings_for(
            self._url,
            pubnub_publish_key=self._pubnub.publish_key,
            pubnub_subscribe_key=self._pubnub.subscribe_key,
            pubnub_secret_key=self.keys[generation],
            pubnub_origin=self._pubnub.origin,
            pubnub_ssl=False,
            gateway_delivery_seconds=8,
        )
        with serving(settings) as served:
            yield served


def test_logins_of_shifts_and_the_secret_key_change_and_every_event_goes_out(
    database_url: str, connection: psycopg.Connection, world: World, tmp_path: Path
) -> None:
    assert "`PUBNUB_SECRET_KEY`" in PAGE.read_text(encoding="utf-8")
    with LocalPubNub(StandInConfig(secret_key="unused", enforce_access=True)) as pubnub:
        change = Change(database_url, pubnub, connection)
        pubnub.accept_secret_keys(change.keys["a"])
        player = world.user()
        game = world.game(player)
        gateways: list[Serving] = []

        def call(gateway: Serving) -> int:
            """200: PubNub has taken it."""
            return gateway.call(BROADCAST, SMOKE, authorization=f"Bearer {SERVICE_KEY}").status_code

        def may_hear(token: str) -> bool:
            path = f"{pubnub.url}/v2/subscribe/{pubnub.subscribe_key}/game-{game}/0"
            query = {"tt": "0", "uuid": player, "auth": token}
            return httpx.get(path, params=query, timeout=20, trust_env=False).status_code == 200

        try:
            with ExitStack() as new:
                with ExitStack() as old:
                    for role in _SHIFTS:
                        change.run("create", role, "a")
                    old.enter_context(change.shifts("a", tmp_path))
                    gateways.append(old.enter_context(change.gateway("a")))
                    assert wait_until(lambda: call(gateways[0]) == 200, seconds=30)
                    with calling(call, gateways) as statuses:
                        more(statuses)
                        first = gateways[0].player(player, ACCESS).json()["token"]
                        assert may_hear(first)
                        pubnub.accept_secret_keys(*change.keys.values())  # a second key at PubNub
                        for role in _SHIFTS:
                            change.run("create", role, "b")
                        new.enter_context(change.shifts("b", tmp_path))
                        gateways.append(new.enter_context(change.gateway("b")))
                        for role in _SHIFTS:
                            assert wait_until(lambda role=role: change.at_work(role, "b"), seconds=30)  # type: ignore[misc]
                        second = gateways[1].player(player, ACCESS).json()["token"]
                        assert may_hear(first)
                        assert may_hear(second)
                        more(statuses)
                # The old ones have left: nobody uses their logins, which go, and the old key is revoked.
                with calling(call, gateways) as later:
                    for role in _SHIFTS:
                        assert wait_until(lambda role=role: not change.at_work(role, "a"), seconds=10)  # type: ignore[misc]
                        change.run("drop", role, "a")
                    pubnub.accept_secret_keys(change.keys["b"])
                    more(later)
                assert set(statuses + later) == {200}
                assert (may_hear(first), may_hear(second)) == (False, True)
        finally:
            for role in _SHIFTS:
                for generation in "ab":
                    connection.execute(f"drop role if exists {change._login(role, generation)}")  # type: ignore[arg-type]
    dead = connection.execute("select count(*) from orchestration.dead_letters").fetchone()
    assert dead == (0,)
