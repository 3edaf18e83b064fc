"""Two releases of the package side by side on one database, and games played under them."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from sketchy_orchestration.database import validations
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.delivery import release_side
from sketchy_orchestration.delivery.deployment_host import ProcessHost
from sketchy_orchestration.delivery.deployment_steps import Config, Parts
from sketchy_orchestration.domain.validation import Item, Outcome, Result, Suite, judge
from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.version import Version
from tests.e2e.stack_runner import ROOT


def copy_release(folder: Path, version: str) -> Path:
    """Another version of the package, as a checkout of its own."""
    for part in ("sketchy_orchestration", "sql"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    front = folder / "sketchy_orchestration" / "__init__.py"
    text = front.read_text(encoding="utf-8")
    front.write_text(f'{text}\n__version__ = "{version}"\n', encoding="utf-8")
    return folder


def vouch(settings: Settings, path: Path) -> None:
    """A validation of that release that says go, and all that people attest."""
    vouch_for(settings, release_side.version_of(settings, path=str(path)))


def vouch_for(settings: Settings, version: Version) -> None:
    """The same of a version that is known."""
    results = [Result("all", suite, "all", Outcome.passed, "", 0.0) for suite in Suite]
    with connect(settings, Role.operator) as connection:
        validations.record(
            connection,
            version,
            judge(results, list(Suite)),
            results,
            target="staging",
            suites=[str(suite) for suite in Suite],
            began_at=datetime.now(UTC),
            by="ann",
        )
        for item in Item:
            validations.attest(connection, item, by="ann", note="looked at", days=1)


def settings_of(url: str, pubnub: LocalPubNub, home: Path) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]  # pydantic's
        database_url=url,  # type: ignore[arg-type]  # pydantic makes it a secret
        pubnub_publish_key=pubnub.publish_key,  # type: ignore[arg-type]
        pubnub_subscribe_key=pubnub.subscribe_key,  # type: ignore[arg-type]
        pubnub_origin=pubnub.origin,
        pubnub_ssl=False,
        sketchy_home=home,
        gateway_port=1,
    )


def parts_of(settings: Settings, folder: Path, path: Path, old: Path, **config: Any) -> Parts:
    """A deployment of the release at `path` over that at `old`."""
    wanted = {"override": "a test", "watch_minutes": 0.02, "start_rollout": False, **config}
    python = ProcessHost(settings, folder).python
    return Parts(
        settings,
        Config(python=python, path=str(path), old_path=str(old), **wanted),
        new_host=ProcessHost(settings, folder / "new-logs", path=str(path)),
        old_host=ProcessHost(settings, folder / "old-logs", path=str(old)),
    )


class Play:
    """Games made again and again, until the end of the block, whose deadlines pass every few milliseconds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> Play:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _play(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("select orchestration.set_flag('enrolment', 'test', 'test', null, 100)")
            while not self._stop.wait(0.5):
                connection.execute(
                    """with made as (
                           insert into public.games (prompt) select 'a cat' from generate_series(1, 10)
                           returning id
                       )
                       select public.transition_game_status(id, 'briefing') from made"""
                )
                connection.execute(
                    """update public.games
                       set phase_expires_at = clock_timestamp() + random() * interval '2 s'
                       where status = 'briefing' and phase_expires_at > now() + interval '3 s'"""
                )


@dataclass
class Sums:
    """What became of everything: all of it once."""

    connection: psycopg.Connection

    def one(self, text: str) -> int:
        row = self.connection.execute(text).fetchone()
        assert row is not None
        return int(row[0])

    @property
    def waiting(self) -> int:
        return self.one(
            """select count(*) from orchestration.outbox o
               where not exists (select from orchestration.outcomes c where c.outbox_id = o.id)"""
        )

    @property
    def releases(self) -> set[str]:
        rows = self.connection.execute(
            """select release from orchestration.shifts
               where ended_at is null and heartbeat_at > clock_timestamp() - interval '3 s'"""
        )
        return {row[0].partition("+")[0] for row in rows}

    def lost(self) -> dict[str, int]:
        return {
            "dead": self.one("select count(*) from orchestration.dead_letters"),
            "transitions twice": self.one(
                """select count(*) from (select from orchestration.transitions
                                         group by game_id, from_phase having count(*) > 1) t"""
            ),
            "outcomes twice": self.one(
                """select count(*) from (select from orchestration.outcomes
                                         group by outbox_id having count(*) > 1) o"""
            ),
            "early": self.one("select count(*) from orchestration.transitions where lateness_ms < 0"),
        }

    def heard_twice(self, pubnub: LocalPubNub) -> int:
        heard = Counter(
            (each.channel, each.message["eventId"])
            for each in pubnub.record()
            if isinstance(each.message, dict) and each.message.get("seq") is not None
        )
        return sum(count > 1 for count in heard.values())
