"""The gateway as a part of the stack: called as the game calls it, with a canary in every secret setting."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from psycopg import sql

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application, processes
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.local.postgres.folders import delete
from sketchy_orchestration.settings import Settings
from tests.e2e.leaks import commands, dump, files, generated, leaks, pages
from tests.e2e.stack_runner import RunningStack, sketchy
from tests.integration.gateway.reference_client import ReferenceClient
from tests.integration.gateway.serving import (
    ACCESS,
    BROADCAST,
    EVENTS,
    MONITOR,
    SMOKE,
    TIMER,
    World,
    token_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_MEMORY_MB = 1536
_CONNECTIONS = 20
_ROLES = ("timer", "relay", "gateway", "operator")
_OF_THE_STACK = {
    *("superuser", "owner", "SUPABASE_SERVICE_ROLE_KEY", "CRON_SECRET", "SUPABASE_JWT_SECRET"),
    *("PUBNUB_SECRET_KEY", "DAGSTER_PASSWORD"),
}
# The smoke test of the application's own deployment guide, but for the address.
_SMOKE_TEST = """\
set -e
curl -sS -X POST $URL/functions/v1/broadcast-pubnub-event \\
  -H "Authorization: Bearer $SERVICE_ROLE_KEY" \\
  -d '{"type":"test","gameId":"test-game","userId":"test-user","timestamp":1234567890,"version":"2.0.0","data":{}}'
echo
curl -sS -X POST $URL/functions/v1/monitor-game-timers \\
  -H "x-cron-secret: $CRON_SECRET"
"""  # noqa: E501  as it stands there


class Guarded:
    """The running stack, how to join it, and what must never be seen anywhere."""

    def __init__(self, stack: RunningStack, canaries: dict[str, str]) -> None:
        self.stack = stack
        self.canaries = canaries
        self.environment = stack.environment()
        self.conn = psycopg.connect(self.environment["DATABASE_URL"], autocommit=True)
        self.world = World(self.conn)
        self.client = httpx.Client(
            base_url=self.environment["SKETCHY_GATEWAY_URL"], timeout=20, trust_env=False
        )
        self.said: list[str] = []

    def ask(self, function: str, body: object = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answered = self.client.post(f"/functions/v1/{function}", json=body, headers=named)
        self.said.append(f"{answered.headers} {answered.text}")
        return answered

    def as_player(self, player: str) -> str:
        return f"Bearer {token_of(player, secret=self.environment['SUPABASE_JWT_SECRET'])}"

    def as_service(self) -> str:
        return f"Bearer {self.environment['SUPABASE_SERVICE_ROLE_KEY']}"

    def sketchy(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = sketchy(self.stack.home, *words)
        self.said.append(done.stdout + done.stderr)
        return done

    def close(self) -> None:
        self.client.close()
        self.conn.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A stack whose running parts have logins of their own, before a PubNub that lets no stranger in."""
    home = tmp_path_factory.mktemp("guarded") / "home"
    home.parent.chmod(0o755)
    canaries = {name: f"canary-{secrets.token_hex(16)}" for name in (*_ROLES, *_secret_settings())}
    port = processes.free_port()
    with EmbeddedPostgres(home, port=port) as running:
        application.install(running.owner_url())
        migrate_up(running.owner_url())
        with psycopg.connect(running.owner_url(), autocommit=True) as conn:
            for role in _ROLES:
                conn.execute(
                    sql.SQL("create role {} login password {} in role {}").format(
                        sql.Identifier(f"{role}_login"),
                        sql.Literal(canaries[role]),
                        sql.Identifier(f"sketchy_{role}"),
                    )
                )
        logins = {
            f"{role.upper()}_DATABASE_URL": running.url(f"{role}_login", canaries[role]) for role in _ROLES
        }
    nowhere = f"127.0.0.1:{processes.free_port()}"
    given = {
        **logins,
        **{name.upper(): canaries[name] for name in _secret_settings() if not name.endswith("_url")},
        "ALERT_SLACK_URL": f"json://{nowhere}/{canaries['alert_slack_url']}",
        "ALERT_EMAIL_URL": f"mailto://me:{canaries['alert_email_url']}@example.com?smtp=127.0.0.1&port=9",
        "ALERT_PAGERDUTY_URL": f"json://me:{canaries['alert_pagerduty_url']}@{nowhere}",
        "DEAD_MAN_URL": f"http://{nowhere}/{canaries['dead_man_url']}",
        "LOG_LEVEL": "DEBUG",
    }
    words = ("--games", "4", "--enforce-access", "--postgres-port", str(port))
    with RunningStack(home, words, given) as stack:
        stack.wait_for("Dagster: ", seconds=120)
        assert "gateway: http" in stack.said(), stack.logs()
        found = Guarded(stack, canaries)
        yield found
        found.close()
    delete(home)


def _secret_settings() -> list[str]:
    """But for connections and PubNub's keys, which the stack itself makes."""
    return [
        name
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
        and not name.endswith("database_url")
        and not name.startswith("pubnub_")
    ]


def test_the_smoke_test_of_the_application_passes_line_for_line(guarded: Guarded) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on PATH")
    environment = guarded.environment
    done = subprocess.run(
        ["/bin/sh", "-c", _SMOKE_TEST],
        env={
            "PATH": os.environ["PATH"],
            "URL": environment["SKETCHY_GATEWAY_URL"],
            "SERVICE_ROLE_KEY": environment["SUPABASE_SERVICE_ROLE_KEY"],
            "CRON_SECRET": environment["CRON_SECRET"],
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    event, sweep = (httpx.Response(200, text=line).json() for line in done.stdout.splitlines())
    assert (event["success"], event["state"]) == (True, "delivered")
    assert event["timetokens"]["game-test-game"].isdigit()
    assert (sweep["errors"], sweep["environment"]) == (0, "development")
    assert {"processed", "skipped", "executionTime", "timestamp", "requestId", "version"} <= sweep.keys()


class Subscriber:
    """Asks PubNub as an SDK does, with a token or without."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._url = f"http://{environment['PUBNUB_ORIGIN']}"
        self._subscribe_key = environment["PUBNUB_SUBSCRIBE_KEY"]
        self._publish_key = environment["PUBNUB_PUBLISH_KEY"]

    def subscribe(self, channel: str, since: str = "0", **who: str) -> httpx.Response:
        path = f"/v2/subscribe/{self._subscribe_key}/{channel}/0"
        return self._get(path, {"tt": since, **who})

    def publish(self, channel: str, **who: str) -> int:
        return self._get(
            f"/publish/{self._publish_key}/{self._subscribe_key}/0/{channel}/0/1", who
        ).status_code

    def _get(self, path: str, query: dict[str, str]) -> httpx.Response:
        return httpx.get(self._url + path, params=query, timeout=20, trust_env=False)


def test_a_players_token_lets_it_hear_its_games_and_nothing_more(guarded: Guarded) -> None:
    world, environment = guarded.world, guarded.environment
    player, other = world.user(), world.user()
    mine, theirs = world.game(player), world.game(other)
    granted = guarded.ask(ACCESS, authorization=guarded.as_player(player))
    assert granted.status_code == 200, granted.text
    assert set(granted.json()["channels"]) == {f"game-{mine}", f"presence-{mine}", f"user-{player}"}
    me = {"auth": granted.json()["token"], "uuid": player}
    pubnub = Subscriber(environment)

    since = pubnub.subscribe(f"game-{mine}", **me).json()["t"]["t"]
    told = {**SMOKE, "type": "timer_sync", "gameId": mine, "userId": "system", "timestamp": _now_ms()}
    told["data"] = {"timeRemaining": 1, "phase": "waiting", "serverTime": _now_ms(), "totalDuration": 1}
    sent = guarded.ask(BROADCAST, told, authorization=guarded.as_service())
    assert (sent.status_code, sent.json()["state"]) == (200, "delivered"), sent.text
    heard = [message["d"] for message in pubnub.subscribe(f"game-{mine}", since, **me).json()["m"]]
    assert [message["eventId"] for message in heard] == [sent.json()["eventId"]]

    for channel in (f"presence-{mine}", f"user-{player}"):
        assert pubnub.subscribe(channel, **me).status_code == 200
    refused = [
        *(pubnub.subscribe(channel, **me).status_code for channel in (f"game-{theirs}", f"user-{other}")),
        pubnub.subscribe(f"game-{mine},game-{theirs}", **me).status_code,
        pubnub.subscribe(f"game-{mine}", uuid=player).status_code,
        pubnub.subscribe(f"game-{mine}", auth=me["auth"], uuid=other).status_code,
        *(pubnub.publish(channel, **me) for channel in (f"game-{mine}", f"user-{player}")),
    ]
    assert refused == [403] * len(refused)


def test_the_reference_client_hears_a_game_from_its_first_event_to_the_next_phase(guarded: Guarded) -> None:
    world, environment = guarded.world, guarded.environment
    player = world.user()
    game = world.game(player, world.user())
    given = {
        "pubnub": {
            "publishKey": environment["PUBNUB_PUBLISH_KEY"],
            "subscribeKey": environment["PUBNUB_SUBSCRIBE_KEY"],
            "userId": player,
            "origin": environment["PUBNUB_ORIGIN"],
            "ssl": False,
        },
        "gatewayUrl": environment["SKETCHY_GATEWAY_URL"],
        "token": guarded.as_player(player).removeprefix("Bearer "),
        "gameId": game,
        "after": 0,
    }
    with ReferenceClient(given) as client:

        def drawing() -> bool:
            last = client.heard[-1] if client.heard else {}
            return last.get("type") == "phase_changed" and last["data"]["newPhase"] == "drawing"

        world.conn.execute("select public.transition_game_status(%s, 'briefing')", [game])
        # The timer shift moves it on from here, the fan-out shift tells it.
        world.conn.execute("update games set phase_expires_at = now() + '1 second' where id = %s", [game])
        client.until(drawing)
        ordered = [seq for seq in client.seqs() if seq is not None]
        assert ordered == list(range(1, len(ordered) + 1))
        assert {"player_joined", "phase_changed"} <= {event["type"] for event in client.heard}
        assert client.ask("remaining", "remaining")["remaining"] > 30_000


def test_a_developer_tries_a_players_function_with_a_token_of_the_command(guarded: Guarded) -> None:
    player = guarded.world.user()
    game = guarded.world.game(player, status="drawing", seconds_left=60)
    made = sketchy(guarded.stack.home, "gateway", "token", player)
    assert made.returncode == 0, made.stderr
    answered = guarded.ask(TIMER, {"gameId": game}, authorization=f"Bearer {made.stdout.strip()}")
    assert (answered.status_code, answered.json()["phase"]) == (200, "drawing")
    refused = sketchy(guarded.stack.home, "gateway", "token", player, ENVIRONMENT="production")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)


def _now_ms() -> int:
    return int(time.time() * 1000)


def test_memory_and_connections_stay_within_the_figures_table(guarded: Guarded) -> None:
    stack = guarded.stack

    def settled() -> bool:
        status = stack.status()
        names = {part["name"] for part in status["stack"]["parts"]}
        shifts = [shift for shift in status["system"]["shifts"] if shift["alive"]]
        return "watchdog" in names and not any("bridge" in name for name in names) and len(shifts) == 4

    assert processes.wait_until(settled, seconds=90, pause=0.5), stack.logs()
    parts = stack.status()["stack"]["parts"]
    assert {part["name"] for part in parts} == {
        *("pubnub", "players", "gateway", "code-server", "dagster-daemon", "dagster-webserver", "watchdog")
    }
    assert [part["name"] for part in parts if not part["alive"] or part["restarts"]] == []
    players = next(part["pid"] for part in parts if part["name"] == "players")
    mine = [stack.process.pid, *(process.pid for process in processes.marked(stack.mark))]
    mine += [child.pid for child in psutil.Process(stack.process.pid).children(recursive=True)]
    megabytes = sum(_pss(pid) for pid in set(mine) - {players})
    assert 300 < megabytes <= _MEMORY_MB
    rows = guarded.conn.execute(
        "select application_name, count(*)::int from pg_stat_activity where datname = current_database()"
        " and pid <> pg_backend_pid() and usename <> 'sketchy_dagster'"
        " and application_name not in ('sketchy play', 'sketchy up') group by 1"
    ).fetchall()
    assert sum(count for _, count in rows) <= _CONNECTIONS, rows
    assert dict(rows)["sketchy gateway"] == 4


def _pss(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_full_info().pss) / 2**20
    except psutil.Error:
        return 0.0


def test_no_secret_gets_out_whatever_goes_wrong(guarded: Guarded) -> None:
    _provoke(guarded)
    home, environment = guarded.stack.home, guarded.environment
    made = generated(home)
    assert set(made) == _OF_THE_STACK
    assert min(map(len, made.values())) >= 32
    hidden = {f"canary of {name}": secret for name, secret in guarded.canaries.items()} | made
    rows = dump(home, environment["DATABASE_URL"])
    assert "timer_shift" in rows
    assert "Invalid JSON" in rows  # the dead letter
    assert "sketchy_orchestration.cli.main play" in commands()
    texts = files(home, guarded.stack.output)
    wanted = {
        "players.log",
        "gateway.log",
        "watchdog.log",
        "dagster-daemon.log",
        "dagster.yaml",
        "postgres.log",
    }
    assert wanted <= {Path(name).name for name in texts}
    assert "gateway_grant_failed" in texts[str(home / "logs" / "gateway.log")]
    places = {
        "arguments": commands(),
        "the database": rows,
        "Dagster's pages": pages(environment["SKETCHY_DAGSTER_UI"]),
        "answers and output": "\n".join(guarded.said),
        **{
            path: guarded.client.get(path).text for path in ("/metrics", "/health", "/ready", "/openapi.json")
        },
        **texts,
    }
    assert leaks(hidden, places) == []


def _provoke(guarded: Guarded) -> None:
    """Wrong callers, a PubNub that refuses, a dead letter, broken connections, a killed run."""
    service, world = guarded.as_service(), guarded.world
    player = world.user()
    game = world.game(player)
    for credentials in (
        service,
        guarded.as_player(player),
        service + "x",
        guarded.canaries["cron_secret_previous"],
    ):
        for function in (BROADCAST, TIMER, EVENTS, ACCESS, MONITOR):
            guarded.ask(function, {"gameId": game}, authorization=credentials)
    guarded.ask(MONITOR, x_cron_secret=guarded.environment["CRON_SECRET"] + "x")

    fault = ("pubnub", "fault", "on")
    for words in (("wrong-key", "--operation", "grant"), ("html", "--operation", "grant")):
        assert guarded.sketchy(*fault, *words, "--times", "1").returncode == 0
        assert guarded.ask(ACCESS, authorization=guarded.as_player(player)).status_code == 502
    refusal = ("--status", "400", "--body", '[0,"Invalid JSON","1"]', "--channel", "game-doomed")
    assert guarded.sketchy(*fault, "status", *refusal).returncode == 0
    doomed = guarded.ask(BROADCAST, {**SMOKE, "gameId": "doomed"}, authorization=service)
    assert (doomed.status_code, doomed.json()["error"]["code"]) == (502, "event_given_up"), doomed.text
    assert guarded.sketchy(*fault, "reset-before", "--operation", "publish", "--times", "20").returncode == 0

    (row,) = guarded.conn.execute(
        "select pid, shift_id from orchestration.shifts where kind = 'fanout' and ended_at is null limit 1"
    ).fetchall()
    os.kill(row[0], signal.SIGKILL)
    _end_sessions(guarded)
    for words in (("alerts", "test"), ("health",), ("status",), ("no-such-command",)):
        guarded.sketchy(*words)

    def recovered() -> bool:
        shifts: list[dict[str, Any]] = guarded.stack.status()["system"]["shifts"]
        answered = guarded.ask(TIMER, {"gameId": game}, authorization=guarded.as_player(player))
        return answered.status_code == 200 and sum(shift["alive"] for shift in shifts) == 4

    assert processes.wait_until(recovered, seconds=90, pause=0.5), guarded.stack.logs()


def _end_sessions(guarded: Guarded) -> None:
    """Every connection of the running parts dies at once."""
    superuser = generated(guarded.stack.home)["superuser"]
    parts = psycopg.conninfo.conninfo_to_dict(guarded.environment["DATABASE_URL"])
    with psycopg.connect(
        host=str(parts["host"]),
        port=str(parts["port"]),
        dbname="postgres",
        user="sketchy_superuser",
        password=superuser,
    ) as conn:
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename like '%%_login'", []
        )
