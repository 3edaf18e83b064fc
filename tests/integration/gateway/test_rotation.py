"""docs/rotate-secrets.md, carried out: callers never meet a closed door."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from sketchy_orchestration.local.processes import wait_until
from tests.integration.gateway.serving import (
    BROADCAST,
    MONITOR,
    SMOKE,
    TIMER,
    Serving,
    World,
    serving,
    settings_for,
    token_of,
)

PAGE = Path(__file__).parents[3] / "docs" / "rotate-secrets.md"
SQL_BLOCK = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Call = Callable[[Serving], int]


@contextmanager
def calling(call: Call, gateways: list[Serving]) -> Iterator[list[int]]:
    """Calls the newest gateway again and again; the statuses it got."""
    over = threading.Event()
    statuses: list[int] = []

    def run() -> None:
        while not over.is_set():
            statuses.append(call(gateways[-1]))

    caller = threading.Thread(target=run)
    caller.start()
    try:
        yield statuses
    finally:
        over.set()
        caller.join(20)


def more(statuses: list[int]) -> None:
    until = len(statuses) + 10
    assert wait_until(lambda: len(statuses) >= until, seconds=10)


def status_with(gateway: Serving, name: str, secret: str, player: str, game: str) -> int:
    """How a caller that knows this secret is answered."""
    if name == "cron_secret":
        return gateway.call(MONITOR, x_cron_secret=secret).status_code
    if name == "supabase_jwt_secret":
        bearer = f"Bearer {token_of(player, secret=secret)}"
        return gateway.call(TIMER, {"gameId": game}, authorization=bearer).status_code
    bearer = f"Bearer {secret}"
    return gateway.call(BROADCAST, SMOKE, authorization=bearer, prefer="respond-async").status_code


@pytest.mark.parametrize("name", ["supabase_service_role_key", "cron_secret", "supabase_jwt_secret"])
def test_a_secret_of_the_gateway(database_url: str, world: World, name: str) -> None:
    assert f"`{name.upper()}`" in PAGE.read_text(encoding="utf-8")
    player = world.user()
    game = world.game(player)
    first, second = (f"{word}-secret-with-enough-characters-for-all" for word in ("first", "second"))
    gateways: list[Serving] = []
    told = [first]

    def call(gateway: Serving) -> int:
        return status_with(gateway, name, told[-1], player, game)

    def replaced_by(stack: ExitStack, **secrets: str | None) -> None:
        """The new process is ready before callers are sent to it."""
        previous = {f"{name}_previous": secrets.get("previous")}
        settings = settings_for(database_url, **{name: secrets["current"]}, **previous)
        gateways.append(stack.enter_context(serving(settings)))

    with ExitStack() as stack:
        replaced_by(stack, current=first)
        with calling(call, gateways) as statuses:
            more(statuses)
            replaced_by(stack, current=second, previous=first)
            more(statuses)
            told.append(second)  # step 3: the callers get the new one
            more(statuses)
            replaced_by(stack, current=second)
            more(statuses)
        assert set(statuses) <= {200, 202}
        assert status_with(gateways[-1], name, first, player, game) == 401


def test_a_database_login(database_url: str, connection: psycopg.Connection, world: World) -> None:
    mark = uuid.uuid4().hex[:10]
    password = uuid.uuid4().hex

    def fitted(text: str) -> str:
        return re.sub(r"gateway_([ab])\b", rf"gateway_{mark}_\1", text).replace("'NEW'", f"'{password}'")

    create, used, drop = (fitted(text) for text in SQL_BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    connection.execute(create.replace(f"{mark}_b", f"{mark}_a"))  # type: ignore[arg-type]  # the page's own text

    def url_of(which: str) -> str:
        parts = urlsplit(database_url)
        netloc = f"gateway_{mark}_{which}:{password}@{parts.hostname}:{parts.port}"
        return urlunsplit(parts._replace(netloc=netloc))

    def settings(which: str) -> object:
        return settings_for(database_url, gateway_database_url=url_of(which))

    player = world.user()
    game = world.game(player)
    gateways: list[Serving] = []
    try:
        with ExitStack() as new:
            with ExitStack() as old:
                gateways.append(old.enter_context(serving(settings("a"))))  # type: ignore[arg-type]
                with calling(
                    lambda g: g.player(player, TIMER, {"gameId": game}).status_code, gateways
                ) as statuses:
                    more(statuses)
                    connection.execute(create)  # type: ignore[arg-type]
                    gateways.append(new.enter_context(serving(settings("b"))))  # type: ignore[arg-type]
                    more(statuses)
                assert set(statuses) == {200}
            assert wait_until(lambda: connection.execute(used).fetchone() == (0,), seconds=10)  # type: ignore[arg-type]
            connection.execute(drop)  # type: ignore[arg-type]
            assert gateways[-1].player(player, TIMER, {"gameId": game}).status_code == 200
    finally:
        connection.execute(f"drop role if exists gateway_{mark}_a")  # type: ignore[arg-type]
        connection.execute(f"drop role if exists gateway_{mark}_b")  # type: ignore[arg-type]
