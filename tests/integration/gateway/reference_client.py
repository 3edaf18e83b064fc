"""The reference client in a real node, with the official SDK, steered from a test."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from sketchy_orchestration.local.pubnub import LocalPubNub
from tests.integration.gateway.serving import Serving, token_of
from tests.integration.standin import javascript

CLIENT = Path(__file__).parents[3] / "clients" / "javascript" / "game-client.js"
DRIVER = Path(__file__).parent / "js" / "driver.mjs"


class ReferenceClient:
    """Starts when the block begins, and has caught up then."""

    def __init__(
        self,
        gateway: Serving,
        pubnub: LocalPubNub,
        game: str,
        player: str,
        *,
        after: int | None = None,
        **waits: int,
    ) -> None:
        self._options = {
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
        self.heard: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []
        self._lines: queue.Queue[str | None] = queue.Queue()

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
        self.until(lambda: {"started": True} in self.said and {"status": "PNConnectedCategory"} in self.said)
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
            self._lines.put(line)
        self._lines.put(None)

    def command(self, word: str) -> None:
        assert self._process.stdin is not None
        if self._process.poll() is None:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Reads what the client says until the condition holds."""
        while not condition():
            try:
                line = self._lines.get(timeout=seconds)
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

    def until_heard(self, *seqs: int) -> None:
        self.until(lambda: len(self.seqs()) >= len(seqs))
        assert self.seqs() == list(seqs)

    def seqs(self) -> list[int | None]:
        return [event.get("seq") for event in self.heard]

    def ask(self, word: str, key: str) -> dict[str, Any]:
        before = len(self.said)
        self.command(word)
        self.until(lambda: any(key in told for told in self.said[before:]))
        return next(told for told in self.said[before:] if key in told)
