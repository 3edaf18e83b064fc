"""The reference client in a real node or browser, with the official SDK, and a game for it to hear."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from sketchy_orchestration.local.pubnub import LocalPubNub
from tests.integration.gateway.serving import EVENTS, Serving, World, token_of
from tests.integration.standin import javascript

CLIENT = Path(__file__).parents[3] / "clients" / "javascript" / "game-client.js"
DRIVER = Path(__file__).parent / "js" / "driver.mjs"


class Told:
    """What a client says of itself, in its order, and the events among it."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []
        self.lines: queue.Queue[str | None] = queue.Queue()

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Reads what the client says until the condition holds."""
        while not condition():
            try:
                line = self.lines.get(timeout=seconds)
            except queue.Empty:
                pytest.fail(f"the client said only {self.said} and heard {self.seqs()}")
            if line is None:
                pytest.fail(f"the client ended: {self.said}")
            try:
                told = json.loads(line)
            except ValueError:
                told = {"text": line}
            self.said.append(told)
            if "heard" in told:
                self.heard.append(told["heard"])

    def until_started(self, seconds: float = 20.0) -> None:
        self.until(
            lambda: {"started": True} in self.said and {"status": "PNConnectedCategory"} in self.said, seconds
        )

    def until_heard(self, *seqs: int) -> None:
        self.until(lambda: len(self.seqs()) >= len(seqs))
        assert self.seqs() == list(seqs)

    def seqs(self) -> list[int | None]:
        return [event.get("seq") for event in self.heard]


def options(
    gateway: Serving, pubnub: LocalPubNub, game: str, player: str, *, after: int | None, **waits: int
) -> dict[str, Any]:
    """What the client needs to know, as driver.mjs and page.html take it."""
    return {
        "pubnub": {
            "publishKey": pubnub.publish_key,
            "subscribeKey": pubnub.subscribe_key,
            "userId": player,
            "origin": pubnub.origin,
            "ssl": False,
        },
        "gatewayUrl": gateway.url,
        "token": token_of(player),
        "gameId": game,
        "after": after,
        "waits": {"retryMs": 50, **waits},
    }


class ReferenceClient(Told):
    """In node. Starts when the block begins, and has caught up then."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self._options = given

    def __enter__(self) -> Self:
        command = [
            javascript.node(),
            str(DRIVER),
            str(javascript.sdk()),
            str(CLIENT),
            json.dumps(self._options),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.until_started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.command("stop")
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def command(self, word: str) -> None:
        assert self._process.stdin is not None
        if self._process.poll() is None:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()

    def ask(self, word: str, key: str) -> dict[str, Any]:
        before = len(self.said)
        self.command(word)
        self.until(lambda: any(key in told for told in self.said[before:]))
        return next(told for told in self.said[before:] if key in told)


class Played:
    """A game with sequenced events that nobody has published yet."""

    def __init__(self, world: World, gateway: Serving, pubnub: LocalPubNub, *states: str) -> None:
        world.enrol_all()
        self.gateway = gateway
        self.pubnub = pubnub
        self.players = [world.user() for _ in range(4)]
        self.game = world.game(*self.players, status="briefing", seconds_left=20)
        world.conn.execute("select public.transition_game_status(%s, 'drawing')", [self.game])
        world.sequence(self.game, *states)
        told = gateway.player(self.players[0], EVENTS, {"gameId": self.game}).json()["events"]
        self.messages = {each["event"]["seq"]: each["event"] for each in told}

    def client(self, after: int | None = 0, **waits: int) -> ReferenceClient:
        return ReferenceClient(self.options(after, **waits))

    def options(self, after: int | None = 0, **waits: int) -> dict[str, Any]:
        return options(self.gateway, self.pubnub, self.game, self.players[0], after=after, **waits)

    def sequence_again(self, world: World, *states: str) -> list[dict[str, Any]]:
        """More of its events get their seq; the messages of all of them."""
        for table in ("sequenced", "outcomes"):
            world.conn.execute(f"delete from orchestration.{table} where game_id = %s", [self.game])  # type: ignore[arg-type]
        world.sequence(self.game, *states)
        told = self.gateway.player(self.players[0], EVENTS, {"gameId": self.game}).json()["events"]
        return [each["event"] for each in told]

    def publish(self, message: dict[str, Any]) -> None:
        """As the relay does; unsigned, which the stand-in takes here."""
        pubnub = self.pubnub
        url = f"{pubnub.url}/publish/{pubnub.publish_key}/{pubnub.subscribe_key}/0/game-{self.game}/0"
        assert httpx.post(url, json=message, trust_env=False).status_code == 200
