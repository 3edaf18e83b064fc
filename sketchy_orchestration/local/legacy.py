"""The legacy handler: the way games were moved on before, as control group and as peer in benchmarks.

A sweep every ten seconds, at most 50 games, one call per game, one HTTP publish per event, errors swallowed.
It also plays pg_net: what the application's triggers would have sent over HTTP is published here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psycopg
import structlog
from pubnub.pubnub import PubNub

from sketchy_orchestration.database.connect import Address, connect_to
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.pubnub.keyset import Keyset, keep_out_of_logs
from sketchy_orchestration.pubnub.publisher import SERVER_UUID
from sketchy_orchestration.pubnub.sdk import configuration

log = structlog.get_logger(__name__)

_FORWARD_EVERY_S = 0.1
_RECONNECT_PAUSE_S = 1.0
_PUBLISH_TIMEOUT_S = 10
_NEXT = {"briefing": "drawing", "drawing": "voting", "voting": "completed", "results": "completed"}


Work = Callable[[psycopg.Connection[Any], PubNub], int]


@dataclass(frozen=True, slots=True)
class LegacySettings:
    """How the legacy handler works; the defaults are those it had.

    Attributes:
        every_s: seconds between the beginnings of two sweeps.
        limit: games a sweep takes at most.
        grace_s: how long drawing is extended, once, while drawings are missing.
        in_database: call the application's own in-database sweep instead, as a cron would.
    """

    every_s: float = 10.0
    limit: int = 50
    grace_s: float = 10.0
    in_database: bool = False


class LegacyHandler:
    """Moves games on and tells of it until it is stopped; both in threads of its own.

    Example:
        >>> with LegacyHandler(url, keyset):
        ...     ...

    Attributes:
        moved, published, errors: counts since the start.
    """

    def __init__(self, url: str, keyset: Keyset, settings: LegacySettings | None = None) -> None:
        self._address = Address.of_url(url)
        self._keyset = keyset
        self.settings = settings or LegacySettings()
        self.moved = 0
        self.published = 0
        self.errors = 0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> Self:
        """Begin.

        Raises:
            SketchyError: the database cannot be reached.
        """
        self._connect().close()
        self._stopping.clear()
        self._threads = [
            threading.Thread(target=self._keep, args=(work, every_s), name=f"legacy-{name}", daemon=True)
            for name, work, every_s in (
                ("sweep", self.sweep, self.settings.every_s),
                ("forward", self.forward, _FORWARD_EVERY_S),
            )
        ]
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End; a sweep in progress stops after the game it is at."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def sweep(self, conn: psycopg.Connection[Any], pubnub: PubNub) -> int:
        """One pass over the games that are due; how many were moved on."""
        if self.settings.in_database:
            conn.execute(query("legacy.monitor"))
            return 0
        conn.execute(query("legacy.cleanup"))
        row = conn.execute(query("legacy.has_timer_columns")).fetchone()
        grace_known = bool(row and row[0])
        moved = 0
        for game_id, phase, _ in conn.execute(
            query("legacy.expired"), {"limit": self.settings.limit}
        ).fetchall():
            if self._stopping.is_set():
                break
            try:
                if phase == "drawing" and grace_known and self._extend(conn, game_id):
                    continue
                moved += self._move(conn, pubnub, game_id, phase)
            except psycopg.errors.OperationalError:
                raise
            except psycopg.Error as error:
                # Tried again in every sweep, for ever, ahead of all others.
                self.errors += 1
                log.warning("legacy_transition_failed", game_id=game_id, error=str(error).splitlines()[0])
        self.moved += moved
        return moved

    def forward(self, conn: psycopg.Connection[Any], pubnub: PubNub) -> int:
        """Publish what the application's triggers have sent since; how many messages."""
        with conn.transaction():
            taken = sorted(conn.execute(query("legacy.take_broadcasts")).fetchall())
        for _, body in taken:
            self._publish(pubnub, body)
        return len(taken)

    def _extend(self, conn: psycopg.Connection[Any], game_id: str) -> bool:
        values = {"game_id": game_id, "seconds": self.settings.grace_s}
        row = conn.execute(query("legacy.drawings_missing"), values).fetchone()
        if not row or not row[0]:
            return False
        conn.execute(query("legacy.begin_grace"), values)
        return True

    def _move(self, conn: psycopg.Connection[Any], pubnub: PubNub, game_id: str, phase: str) -> int:
        status = _NEXT[phase]
        row = conn.execute(query("legacy.transition"), {"game_id": game_id, "status": status}).fetchone()
        if not row or row[0] is not True:
            return 0
        expired = {
            "expiredPhase": phase,
            "nextPhase": status,
            "expiredAt": _iso_now(),
            "transitionTriggeredBy": "monitor-game-timers",
        }
        self._publish(pubnub, _event("timer_expired", game_id, expired))
        if status == "completed":
            self._publish(pubnub, _event("game_completed", game_id, self._results(conn, game_id)))
        return 1

    def _results(self, conn: psycopg.Connection[Any], game_id: str) -> dict[str, object]:
        rows = conn.execute(query("legacy.results"), {"game_id": game_id}).fetchall()
        winner = next(
            (
                {"userId": user, "username": name, "submissionId": drawing}
                for user, name, _, _, drawing, won, _ in rows
                if user == won
            ),
            None,
        )
        return {
            "completedAt": rows[0][6].isoformat() if rows and rows[0][6] else _iso_now(),
            "winner": winner,
            "results": [
                {"userId": user, "username": name, "placement": place, "voteCount": votes}
                for user, name, place, votes, *_ in rows
            ],
        }

    def _publish(self, pubnub: PubNub, body: Mapping[str, object]) -> None:
        try:
            pubnub.publish().channel(f"game-{body.get('gameId')}").message(dict(body)).sync()
            self.published += 1
        except Exception as error:
            # Swallowed, as it always was: a lost event leaves a line in a log and nothing else.
            self.errors += 1
            log.warning("legacy_publish_failed", type=body.get("type"), error=str(error).splitlines()[:1])

    def _keep(self, work: Work, every_s: float) -> None:
        """Do the work again and again, on a connection that is replaced when it breaks."""
        pubnub = _client(self._keyset)
        try:
            while not self._stopping.is_set():
                try:
                    self._keep_with_connection(work, every_s, pubnub)
                except (psycopg.Error, SketchyError) as error:
                    self.errors += 1
                    log.warning("legacy_database_lost", error=str(error).splitlines()[:1])
                    self._stopping.wait(_RECONNECT_PAUSE_S)
        finally:
            pubnub._request_handler.close()

    def _keep_with_connection(self, work: Work, every_s: float, pubnub: PubNub) -> None:
        with self._connect() as conn:
            while not self._stopping.is_set():
                began = time.monotonic()
                work(conn, pubnub)
                self._stopping.wait(max(0.0, every_s - (time.monotonic() - began)))

    def _connect(self) -> psycopg.Connection[Any]:
        return connect_to(self._address, application_name="legacy handler")


def _client(keyset: Keyset) -> PubNub:
    keep_out_of_logs(keyset)
    config = configuration(keyset, SERVER_UUID)
    config.enable_subscribe = False
    config.non_subscribe_request_timeout = _PUBLISH_TIMEOUT_S
    client = PubNub(config)
    # The SDK's own session would send even loopback requests through a proxy of the environment.
    handler = client._request_handler
    first = handler._ensure_session()
    handler._session = type(first)(trust_env=False)
    first.close()
    return client


def _event(kind: str, game_id: str, data: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": kind,
        "gameId": game_id,
        "userId": "system",
        "timestamp": int(time.time() * 1000),
        "version": "2.0.0",
        "data": data,
    }


def _iso_now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
