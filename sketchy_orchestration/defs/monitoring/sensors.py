"""The watch, within Dagster."""

import asyncio
import threading

import dagster as dg

from sketchy_orchestration.defs.monitoring import reporter
from sketchy_orchestration.defs.monitoring.assets import OWNER_TAGS
from sketchy_orchestration.defs.resources import PostgresResource, PubNubResource
from sketchy_orchestration.monitoring.canary import fly_once
from sketchy_orchestration.monitoring.watch import Look, Watchman
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.settings import Settings

# Half a minute less what a look takes: Dagster's daemon comes by every five seconds.
_EVERY = 28
_lock = threading.Lock()
_watchmen: dict[str, Watchman] = {}


def _watchman(settings: Settings) -> Watchman:
    # It remembers, from look to look, since when the database is away.
    key = settings.database_url.get_secret_value() if settings.database_url else ""
    with _lock:
        return _watchmen.setdefault(key, Watchman(settings))


@dg.sensor(
    minimum_interval_seconds=_EVERY,
    default_status=dg.DefaultSensorStatus.RUNNING,
    tags=OWNER_TAGS,
    description=(
        "Looks at everything about twice a minute: rolls up minutes, evaluates alert rules and tells whom"
        " they concern, flies a canary, pings DEAD_MAN_URL while all is well, and every five minutes"
        " reports the assets service_levels, timer_lateness, event_delivery, pool and shifts. Starts no"
        " runs. Leave it on, or run `sketchy watchdog`."
    ),
)
def watch(
    context: dg.SensorEvaluationContext, postgres: PostgresResource, pubnub: PubNubResource
) -> dg.SensorResult:
    settings = pubnub.settings(postgres)
    memory = reporter.Memory.of(context.cursor)
    flight = asyncio.run(fly_once(Keyset.of(settings), settings.region))
    try:
        reporter.tell_the_watch(context.instance, settings)
    finally:
        look = _watchman(settings).look([flight])
    said = reporter.report(context.instance, settings, look, memory)
    return dg.SensorResult(skip_reason=f"{_seen(look)}; {said}", cursor=memory.cursor())


def _seen(look: Look) -> str:
    unwell = [f"{check.name}: {check.said}" for check in look.checks if not check.healthy]
    return "; ".join(unwell) or "all is well"


SENSORS = [watch]
