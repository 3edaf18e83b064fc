"""A running system that is watched: Postgres, PubNub, shifts and `sketchy watchdog` as processes, and the
places where its alerts arrive."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.local.processes import Process
from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.local.stack_database import prepare
from sketchy_orchestration.monitoring.rules import BY_NAME
from sketchy_orchestration.settings import Settings
from tests.e2e.stack_runner import ROOT, clean_environment
from tests.integration.monitoring.receivers import Received, mail_server, webhook
from tests.integration.sweep.scene import Scene

# Limits that are reached within seconds; everything else is as delivered.
SOONER: dict[str, dict[str, float]] = {
    "sweep_timeout": {"limit": 1},
    "pubnub_rate_limit_near": {"for_seconds": 0},
    "events_held_back": {"for_seconds": 0},
    "canary_silent": {"limit": 3},
    "canary_slow": {"for_seconds": 0},
    "games_overdue": {"limit": 3, "for_seconds": 0},
    "games_set_aside": {"for_seconds": 0},
    "circuit_open": {"limit": 1},
    "events_waiting": {"limit": 3},
    "trigger_failures": {"for_seconds": 0},
    "shift_missing": {"for_seconds": 0},
    "shifts_gone": {"for_seconds": 0},
    "switched_off": {"for_seconds": 0},
    "database_connections": {"for_seconds": 0},
    "old_transaction": {"limit": 3},
}
SECONDS = 60.0


class Watched:
    """The parts, and what was told of them.

    Attributes:
        heard: by channel, what arrived there; `alive` are the dead man's pings.
        shifts: processes by kind.
    """

    def __init__(self, url: str, connection: psycopg.Connection[Any], pubnub: LocalPubNub) -> None:
        self.url = url
        self.scene = Scene(url, connection)
        self.pubnub = pubnub
        self.heard: dict[str, Received] = {}
        self.alive = Received()
        self.shifts: dict[str, list[Process]] = {"timer": [], "fanout": []}
        self.settings = Settings(_env_file=None, database_url=url)
        self._log: Path

    def environment(self, home: Path) -> dict[str, str]:
        mail = f"mailto://{self.heard['email'].url}/?from=alerts@example.com&to=operators@example.com"
        return clean_environment(
            home,
            DATABASE_URL=self.url,
            PUBNUB_ORIGIN=self.pubnub.origin,
            PUBNUB_PUBLISH_KEY=self.pubnub.publish_key,
            PUBNUB_SUBSCRIBE_KEY=self.pubnub.subscribe_key,
            PUBNUB_SSL="false",
            ALERT_SLACK_URL=f"json://{self.heard['slack'].url}/",
            ALERT_EMAIL_URL=mail,
            ALERT_PAGERDUTY_URL=f"json://{self.heard['pagerduty'].url}/",
            ALERT_RULES=json.dumps(SOONER),
            ALERT_QUIET_SECONDS="2",
            DEAD_MAN_URL=f"http://{self.alive.url}/alive",
            PUBNUB_MONTHLY_LIMIT="50",
        )

    def start(self, home: Path, *words: str) -> Process:
        self._log = home.with_name("watched.log")
        return processes.start(
            [sys.executable, "-m", "sketchy_orchestration.cli.main", *words],
            env={**self.environment(home), "LOG_LEVEL": "WARNING"},
            log=self._log,
            cwd=ROOT,
        )

    def until(self, condition: Any, what: str, *, seconds: float = SECONDS) -> None:
        """Wait for it, or fail with how the alerts stand and what the processes said."""
        if not processes.wait_until(condition, seconds=seconds, pause=0.1):
            said = self._log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise AssertionError(f"{what}\n{self.alerts(0)}\n{said}")

    def newest(self) -> int:
        """The id of the newest alert: what comes later is above it."""
        return int(self.scene.one("select coalesce(max(id), 0) from orchestration.alerts"))

    def alerts(self, after: int) -> list[tuple[Any, ...]]:
        """(rule, label, state, what was told where) of alerts above that id that fired."""
        return self.scene.rows(
            "select a.rule, a.label, a.state,"
            " array_agg(m.kind || ' ' || m.channel order by m.kind, m.channel)"
            " from orchestration.alerts a left join orchestration.alert_messages m on m.alert_id = a.id"
            " where a.id > %s and a.fired_at is not null group by a.id order by a.id",
            after,
        )

    def fires(self, after: int, *rules: str) -> None:
        """Each of these fires."""
        self.until(lambda: set(rules) <= {row[0] for row in self.alerts(after)}, f"not fired of {rules}")

    def resolves(self, after: int, *rules: str) -> None:
        """Each of these is over, had fired once, and both were told once on each of its channels."""

        def over() -> bool:
            return all(row[2] == "resolved" for row in self.alerts(after) if row[0] in rules)

        self.until(over, f"not resolved of {rules}")
        ended = [row for row in self.alerts(after) if row[0] in rules]
        assert set(Counter((rule, label) for rule, label, _, _ in ended).values()) == {1}, ended
        for rule, label, _, told in ended:
            wanted = [channel for channel in BY_NAME[rule].channels if channel != label]
            expected = sorted(f"{kind} {channel}" for kind in ("firing", "resolved") for channel in wanted)
            assert told == expected, rule

    def over(self, *rules: str) -> None:
        """None of these is open, whether or not it was: what comes next is an alert of its own."""
        still = "select count(*) from orchestration.alerts where rule = any (%s) and resolved_at is null"
        self.until(lambda: self.scene.one(still, list(rules)) == 0, f"still open of {rules}")

    def end_shifts(self) -> None:
        """Those of the beginning, and those that a scenario has started since."""
        for started in self.shifts.values():
            for shift in started:
                _end(shift)

    def send(self, kind: str, number: signal.Signals) -> None:
        for process in self.shifts[kind]:
            process.send_signal(number)


@contextmanager
def watched_system(home: Path) -> Iterator[Watched]:
    """All of it at work; ended at the end of the block."""
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(home))
        url = postgres.owner_url()
        prepare(url, owned=True, with_application=True)
        pubnub = stack.enter_context(LocalPubNub())
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        watched = Watched(url, connection, pubnub)
        watched.heard = {
            "slack": stack.enter_context(webhook()),
            "email": stack.enter_context(mail_server()),
            "pagerduty": stack.enter_context(webhook()),
        }
        watched.alive = stack.enter_context(webhook())
        stack.callback(watched.end_shifts)
        for kind in watched.shifts:
            watched.shifts[kind] = [watched.start(home, "shift", kind) for _ in range(2)]
        watched.until(
            lambda: (
                watched.scene.one(
                    "select count(*) from orchestration.shifts where heartbeat_at > now() - interval '2 s'"
                )
                == 4
            ),
            "four shifts are not at work",
        )
        dog = watched.start(home, "watchdog", "--every", "0.3", "--without-dagster")
        stack.callback(_end, dog)
        watched.until(lambda: bool(watched.alive.paths), "the dead man's switch is not told")
        yield watched


def _end(process: Process) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGCONT)
    processes.stop(process, (signal.SIGTERM, 10.0))
