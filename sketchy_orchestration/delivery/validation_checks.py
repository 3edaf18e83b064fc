"""The steps of the checklists: what each does, and what it calls a failure."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

import psycopg

from sketchy_orchestration.database import flags, migrate
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.delivery.validation import CannotTryError, Check, Scene, StepFailedError
from sketchy_orchestration.delivery.validation_failures import FAILURES
from sketchy_orchestration.delivery.validation_smoke import SMOKE, tests_folder
from sketchy_orchestration.domain.health import Status
from sketchy_orchestration.domain.rollout_plan import ENROLMENT
from sketchy_orchestration.domain.validation import Suite
from sketchy_orchestration.monitoring import health, load
from sketchy_orchestration.monitoring.security_audit import audit
from sketchy_orchestration.monitoring.watch import Watchman
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.settings import Environment

SWEEP_MS, DELIVERY_MS, STATEMENT_MS, PUBNUB_MS = 5_000, 2_000, 500, 1_000
"""What the contract allows: an execution of the timers, an event's way, a trigger, PubNub's own way."""

BURST = 200
_SPEED = 12.0
_VECTORS = 500


def settings_are_complete(scene: Scene) -> str:
    """Keys and secrets are there; in staging and production all of them."""
    settings = scene.settings
    Keyset.of(settings)
    needed = ("pubnub_secret_key", "supabase_service_role_key", "cron_secret")
    missing = [name.upper() for name in needed if getattr(settings, name) is None]
    if missing and settings.environment is not Environment.development:
        raise StepFailedError(f"not set: {', '.join(missing)}")
    return f"environment {settings.environment}; not set: {', '.join(missing) or 'nothing'}"


def buckets_agree(scene: Scene) -> str:
    """The database assigns games to buckets as the documented rule does."""
    subjects = [str(uuid4()) for _ in range(_VECTORS)]
    with connect(scene.settings, Role.operator, application_name="sketchy validation") as connection:
        rows = connection.execute(
            "select s, orchestration.bucket('salt', s) from unnest(%s::text[]) s", [subjects]
        ).fetchall()
    for subject, bucket in rows:
        digest = hashlib.sha256(f"salt:{subject}".encode()).hexdigest()
        if int(digest[:8], 16) % 10_000 != bucket:
            raise StepFailedError(f"subject {subject} is in bucket {bucket}, the rule says otherwise")
    return f"{len(rows)} subjects in the buckets of the documented rule"


def unit_tests_pass(_: Scene) -> str:
    """The unit tests of the decisions, where the tests are at hand."""
    folder = tests_folder()
    if folder is None:
        raise CannotTryError("this installation has no tests beside it")
    words = [
        sys.executable,
        "-m",
        "pytest",
        str(folder),
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    done = subprocess.run(
        words, cwd=folder.parents[2], capture_output=True, text=True, timeout=300, check=False
    )
    said = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    if done.returncode:
        raise StepFailedError(said)
    return said


def migrations_are_verified(scene: Scene) -> str:
    """Every migration is applied, and the schema is what they make of it."""
    if scene.settings.database_url is None:
        raise CannotTryError("DATABASE_URL of the owner is needed")
    url = scene.settings.database_url.get_secret_value()
    if pending := migrate.pending(url):
        raise StepFailedError(f"{len(pending)} migrations are not applied: run `sketchy migrate up`")
    if differs := migrate.verify(url):
        raise StepFailedError(f"the schema differs: {'; '.join(differs[:5])}")
    return f"{len(migrate.status(url))} migrations, schema as they make it"


def games(count: int) -> Callable[[Scene], str]:
    """Play so many games at once, heard by real subscribers, and check every promise."""

    def play(scene: Scene) -> str:
        number = min(count, scene.size)
        _clean_games_afterwards(scene)
        ids = [str(uuid4()) for _ in range(number)]
        with enrolled(scene, ids):
            rate = float(max(5, number))
            done = load.play(scene.settings, games=number, rate=rate, speed=_SPEED, seconds=300, ids=ids)
        for name in ("lateness", "delivery", "statements"):
            for part in ("p50", "p99", "max"):
                if (value := done.numbers.get(f"{name}_{part}")) is not None:
                    scene.numbers[f"{name}_{number}_games_{part}_ms"] = value
        summary = done.summary
        heard = f"{summary['events_heard']} of {summary['events_expected']} events heard"
        if not done.kept or summary["completed"] < number:
            raise StepFailedError(
                f"{summary['completed']} of {number} games completed, {heard},"
                f" broken: {summary['violations']} {summary['examples'][:2]}"
            )
        return f"{number} games through all phases, {heard}, every promise kept"

    return play


@contextmanager
def enrolled(scene: Scene, games: Sequence[str]) -> Iterator[None]:
    """These games, not made yet, are ours at any percentage: they stand on the allow list, for so long.

    Raises:
        StepFailedError: the flag is off, so that no game at all is enrolled.
    """
    with connect(scene.settings, Role.operator, application_name="sketchy validation") as connection:
        before = flags.flag(connection, ENROLMENT)
        if not before.enabled:
            raise StepFailedError(
                f"the flag {ENROLMENT} is off, so that nobody would move the test games:"
                f" sketchy flags set {ENROLMENT} on"
            )
        _allow(connection, [*before.allow, *games])
    try:
        yield
    finally:
        with connect(scene.settings, Role.operator, application_name="sketchy validation") as connection:
            _allow(connection, [one for one in flags.flag(connection, ENROLMENT).allow if one not in games])


def _allow(connection: psycopg.Connection[Row], games: Sequence[str]) -> None:
    flags.set_flag(connection, ENROLMENT, by="validation", reason="its own test games", allow=games)


def _clean_games_afterwards(scene: Scene) -> None:
    if "games" in scene.numbers:
        return
    scene.numbers["games"] = 0

    def clean() -> None:
        with connect(scene.settings, Role.owner, application_name="sketchy validation") as connection:
            connection.execute(query("validations.clean_up"), {"began_at": scene.began_at})
        del scene.numbers["games"]

    scene.clean_up.append(clean)


def burst(scene: Scene) -> str:
    """200 events within a second, all delivered within what the contract allows."""
    subject = f"validation-{uuid4()}"
    with connect(scene.settings, Role.operator, application_name="sketchy validation") as operator:
        with connect(scene.settings, Role.gateway, application_name="sketchy validation") as gateway:
            began = time.monotonic()
            ids = [
                row[0]
                for row in gateway.execute(
                    """select e.outbox_id from generate_series(1, %s) n
                       cross join lateral orchestration.accept_event(
                           null, %s || '-' || n, 'test', 'validation', '{}', 'validation') e""",
                    [BURST, subject],
                )
            ]
            took = time.monotonic() - began
        delays = wait_for_delivery(operator, ids)
    scene.numbers["burst_p95_ms"] = delays[int(len(delays) * 0.95) - 1]
    scene.numbers["burst_max_ms"] = delays[-1]
    if scene.numbers["burst_p95_ms"] > DELIVERY_MS:
        raise StepFailedError(f"p95 of {BURST} events is {scene.numbers['burst_p95_ms']:.0f} ms")
    return f"{BURST} events in {took:.2f} s, delivered p95 {scene.numbers['burst_p95_ms']:.0f} ms"


def wait_for_delivery(
    connection: psycopg.Connection[tuple[object, ...]], ids: list[int], seconds: float = 30.0
) -> list[float]:
    """Wait until these events are delivered; how long each took, in ms, sorted.

    Raises:
        StepFailedError: one was not, or became a dead letter.
    """
    until = time.monotonic() + seconds
    while True:
        rows = connection.execute(
            """select c.outcome, extract(epoch from c.at - c.occurred_at)::float8 * 1000
               from orchestration.outcomes c where c.outbox_id = any (%s)""",
            [ids],
        ).fetchall()
        if bad := [row for row in rows if row[0] != "delivered"]:
            raise StepFailedError(f"{len(bad)} of {len(ids)} events became {bad[0][0]}")
        if len(rows) >= len(ids):
            return sorted(float(str(row[1])) for row in rows)
        if time.monotonic() > until:
            raise StepFailedError(f"{len(rows)} of {len(ids)} events were delivered within {seconds:g} s")
        time.sleep(0.05)


def all_is_well(scene: Scene) -> str:
    """Health: nothing fails."""
    checks = health.look(scene.settings, gateway=False)
    if failing := [f"{check.name}: {check.said}" for check in checks if check.status is Status.failing]:
        raise StepFailedError("; ".join(failing))
    return ", ".join(f"{check.name} {check.status}" for check in checks)


def monitoring_sees_it(scene: Scene) -> str:
    """Monitoring and logging: a look of the watch finds the signals of what was just played."""
    for _ in range(20):
        look = Watchman(scene.settings).look()
        if look.evaluation is not None:
            break
        time.sleep(0.25)
    if not look.signals:
        raise StepFailedError("the watch sees no signals")
    return f"{len(look.signals)} signals, {look.rolled_up} minutes rolled up"


def performance(scene: Scene) -> str:
    """The contract's four figures, measured by the steps before."""
    with connect(scene.settings, Role.operator, application_name="sketchy validation") as connection:
        row = connection.execute(
            """select coalesce((select max((s.report ->> 'sweep_max_ms')::float8) from orchestration.shifts s
                                where s.kind = 'timer' and s.heartbeat_at > %(began_at)s), 0),
                      percentile_disc(0.95) within group (
                          order by extract(epoch from c.at - c.occurred_at)::float8 * 1000)
               from orchestration.outcomes c
               where c.outcome = 'delivered' and c.occurred_at > %(began_at)s""",
            {"began_at": scene.began_at},
        ).fetchone()
    if row is None or row[1] is None:
        raise CannotTryError("no event was delivered since this validation began")
    scene.numbers |= {"sweep_max_ms": float(row[0]), "delivery_p95_ms": float(row[1])}
    limits = {
        "sweep_max_ms": SWEEP_MS,
        "delivery_p95_ms": DELIVERY_MS,
        "burst_p95_ms": DELIVERY_MS,
        "canary_p95_ms": PUBNUB_MS,
        **{name: STATEMENT_MS for name in scene.numbers if name.startswith("statements_") and "p99" in name},
    }
    if missing := [name for name in ("burst_p95_ms", "canary_p95_ms") if name not in scene.numbers]:
        raise CannotTryError(f"not measured: {', '.join(missing)}")
    over = [
        f"{name} {scene.numbers[name]:.0f} > {limit}"
        for name, limit in limits.items()
        if scene.numbers.get(name, 0.0) > limit
    ]
    if over:
        raise StepFailedError("; ".join(over))
    return ", ".join(f"{name} {scene.numbers[name]:.0f} of {limit}" for name, limit in sorted(limits.items()))


def security(scene: Scene) -> str:
    """The security audit: no rule of the database broken, nothing of ours open to the network."""
    found = audit(scene.settings)
    bad = [*found.breaches, *(f"{one.program} listens on {one.address}:{one.port}" for one in found.exposed)]
    if bad:
        raise StepFailedError("; ".join(bad[:5]))
    return f"no rule broken, nothing exposed; {found.findings} findings in all, in the job security_audit"


def checks() -> list[Check]:
    """Every step, in the order in which they are run."""
    unit = [
        Check("settings", Suite.unit, "Configure environment variables", settings_are_complete),
        Check("buckets", Suite.unit, "Unit tests: decisions, in the database too", buckets_agree),
    ]
    if tests_folder() is not None:
        unit.append(Check("unit_tests", Suite.unit, "Complete unit test suite", unit_tests_pass))
    return [
        *unit,
        Check("migrations", Suite.integration, "Verify migration", migrations_are_verified),
        Check("one_game", Suite.integration, "Create test game, trigger phases, verify events", games(1)),
        *(check for check in FAILURES if check.suite is Suite.integration),
        Check("ten_games", Suite.load, "Concurrent game processing (10 games)", games(10)),
        Check("fifty_games", Suite.load, "Load testing (50 concurrent games)", games(50)),
        Check("burst", Suite.load, "100+ events a second: 200 at once", burst),
        Check("performance", Suite.load, "Performance validation: 5 s, 2 s, 500 ms, 1 s", performance),
        Check("health", Suite.integration, "Validate monitoring: health", all_is_well),
        Check("monitoring", Suite.integration, "Validate monitoring and logging", monitoring_sees_it),
        Check("security", Suite.integration, "Security audit completed", security),
        *SMOKE,
        *(check for check in FAILURES if check.suite is Suite.failure),
    ]
