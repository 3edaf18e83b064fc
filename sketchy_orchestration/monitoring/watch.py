"""One look of the watch: roll up, judge, alert, and tell the dead man's switch that all is well.

Dagster's sensor and `sketchy watchdog` both call it; whoever comes second finds nothing to do.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
import structlog

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.database.monitoring import Signals
from sketchy_orchestration.domain.alerting import Channel, Severity
from sketchy_orchestration.domain.health import Check, of_failed_database
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.monitoring import health
from sketchy_orchestration.monitoring.alerting import Alerting, Evaluation
from sketchy_orchestration.monitoring.canary import Flight
from sketchy_orchestration.monitoring.channels import Channels
from sketchy_orchestration.monitoring.metrics import LEVELS_SECONDS, level_signals
from sketchy_orchestration.settings import AlertNotifier, Settings

UNREACHABLE_AFTER = 30.0
"""Seconds without the database before somebody is told; alerts of it cannot be rows."""

REPEAT_AFTER = 3600.0
PING_SECONDS = 5.0
NEEDED = ("database", "games", "timer_shifts", "dagster_daemon")
"""Checks that must be healthy for the dead man's switch to be told so."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Look:
    """What one look saw and did; without the database only `checks` says so."""

    checks: list[Check]
    signals: Signals = field(default_factory=dict)
    rolled_up: int = 0
    evaluation: Evaluation | None = None
    pinged: bool = False


class Watchman:
    """Looks again and again, each time on a connection of its own.

    Args:
        levels_every: seconds for which service levels, a read of a month's minutes, are kept.
        ledger_every: seconds between two balances of the ledger, which counts the events of two hours;
            None: somebody else brings it up to date.

    Raises:
        WrongChannelError: a channel's setting cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        channels: Channels | None = None,
        levels_every: float = LEVELS_SECONDS,
        ledger_every: float | None = None,
    ) -> None:
        self._settings = settings
        self._levels_every = levels_every
        self._ledger_every = ledger_every
        self._balanced = float("-inf")
        self._channels = channels if channels is not None else Channels.of(settings)
        self._alerting = Alerting(settings, channels=self._channels)
        self._levels: tuple[float, Signals] | None = None
        self._away_since: float | None = None
        self._told_away: float | None = None

    def look(self, flights: Sequence[Flight] = (), *, needed: Sequence[str] = NEEDED) -> Look:
        """Look once; never raises for what is not well.

        Args:
            flights: canaries flown since the last look, to be recorded.
            needed: checks that must be healthy for the dead man's switch.
        """
        try:
            with connect(
                self._settings, Role.operator, application_name="sketchy watch", statement_timeout=30.0
            ) as connection:
                found = self._look(connection, flights)
        except (SketchyError, psycopg.Error) as error:
            said = " ".join(str(error).split())
            log.warning("watch_without_database", error=said)
            return Look([of_failed_database(said, self._away(said))])
        self._back()
        unwell = [check.name for check in found.checks if check.name in needed and not check.healthy]
        if not unwell:
            found.pinged = ping(self._settings)
        return found

    def _look(self, connection: psycopg.Connection[Row], flights: Sequence[Flight]) -> Look:
        record(connection, flights, self._settings.region)
        rolled = self._count(connection)
        if self._levels is None or time.monotonic() - self._levels[0] >= self._levels_every:
            self._levels = (time.monotonic(), level_signals(connection, self._settings))
        evaluation = self._alerting.evaluate(connection, self._levels[1])
        began = time.perf_counter()
        monitoring.database_now(connection)
        round_trip = (time.perf_counter() - began) * 1000
        began = time.perf_counter()
        signals = {**monitoring.signals(connection), **self._levels[1]}
        read_ms = (time.perf_counter() - began) * 1000
        checks = health.checks_of(round_trip, signals, pooler="none", read_ms=read_ms)
        return Look(checks, signals, rolled, evaluation)

    def _count(self, connection: psycopg.Connection[Row]) -> int:
        """Roll up, and now and then balance the ledger; when that fails, alerts of the moment still work."""
        rolled = 0
        try:
            rolled = monitoring.roll_up(connection)
            if self._ledger_every is not None and time.monotonic() - self._balanced >= self._ledger_every:
                self._balanced = time.monotonic()
                monitoring.refresh_ledger(connection)
        except psycopg.Error as error:
            if connection.broken:
                raise
            log.warning("not_counted", error=" ".join(str(error).split()))
        return rolled

    def _away(self, said: str) -> float:
        """Tell somebody, at most once in a while; for how many seconds it has been away."""
        now = time.monotonic()
        self._away_since = self._away_since if self._away_since is not None else now
        away = now - self._away_since
        told_lately = self._told_away is not None and now - self._told_away < REPEAT_AFTER
        if away < UNREACHABLE_AFTER or told_lately:
            return away
        self._told_away = now
        runbook = f"{self._settings.alert_runbook_url.rstrip('/')}/database-unreachable.md"
        body = f"{said}\nIn {self._settings.environment}.\nWhat to do: {runbook}"
        self._send("[critical firing] The database cannot be reached", body, Severity.critical)
        return away

    def _back(self) -> None:
        if self._told_away is not None:
            self._send("[critical resolved] The database is back", "It is over.", Severity.info)
        self._away_since = self._told_away = None

    def _send(self, title: str, body: str, severity: Severity) -> None:
        if self._settings.alert_notifier is not AlertNotifier.product:
            return
        wanted = [c for c in (Channel.slack, Channel.pagerduty) if c in self._channels.configured]
        for channel in wanted or self._channels.configured:
            why_not = self._channels.send(channel, title, body, severity)
            if why_not is not None:
                log.warning("alert_not_delivered", channel=str(channel), why=why_not)


def record(connection: psycopg.Connection[Row], flights: Sequence[Flight], region: str) -> None:
    """Write canaries down: they are measured from there."""
    for flight in flights:
        if flight.milliseconds is None:
            monitoring.observe(connection, "canary_lost", 1, label=region, note=flight.why)
        else:
            monitoring.observe(connection, "canary", flight.milliseconds, label=region)


def ping(settings: Settings) -> bool:
    """Tell the dead man's switch that all is well; False when none is set or it did not answer."""
    if settings.dead_man_url is None:
        return False
    url = settings.dead_man_url.get_secret_value()
    if not url.startswith(("http://", "https://")):
        log.warning("dead_man_not_told", why="DEAD_MAN_URL must begin with http:// or https://")
        return False
    try:
        with urllib.request.urlopen(url, timeout=PING_SECONDS) as answer:  # noqa: S310  checked above
            answer.read()
    except (OSError, ValueError) as error:
        # Its address is a secret, and errors quote addresses.
        status = f" {error.code}" if isinstance(error, urllib.error.HTTPError) else ""
        log.warning("dead_man_not_told", why=f"{type(error).__name__}{status}")
        return False
    return True
