"""`sketchy up` as a person meets it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres import EmbeddedPostgres, RunningPostgres
from sketchy_orchestration.local.stack_parts import answers
from tests.e2e.stack_runner import RunningStack, sketchy

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

# What the first start may take on a machine that does other things too; the second's limit is the promise.
_FIRST_START = 90.0
_SECOND_START = 15.0


def _nothing_runs(stack: RunningStack) -> bool:
    return not processes.marked(stack.mark)


def test_the_stack_comes_up_plays_is_joined_and_leaves_nothing_behind(home: Path) -> None:
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        busy = []
        for listener in (one, two, three):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            busy.append(str(listener.getsockname()[1]))
        wanted = zip(("--dagster-port", "--pubnub-port", "--gateway-port"), busy, strict=True)
        words = ("--games", "8", *(word for option in wanted for word in option))
        with RunningStack(home, words) as stack:
            stack.wait_for("Dagster: ", seconds=_FIRST_START)
            stack.wait_for("first transition", seconds=_FIRST_START)
            found = stack.status()
            ports = {part["name"]: str(part["port"]) for part in found["stack"]["parts"]}
            assert busy[0] != ports["dagster-webserver"]
            assert busy[1] != ports["pubnub"]
            assert busy[2] != ports["gateway"]
            assert [part["name"] for part in found["stack"]["parts"] if not part["alive"]] == []
            assert answers(f"{found['stack']['dagster_ui']}/server_info")

            def at_work() -> bool:
                shifts = stack.status()["system"]["shifts"]
                return {shift["kind"] for shift in shifts if shift["alive"]} == {"timer", "fanout"}

            assert processes.wait_until(at_work, seconds=60, pause=0.5), stack.logs()
            assert processes.wait_until(
                lambda: stack.status()["system"]["sent_events"] > 0, seconds=30, pause=0.5
            ), stack.logs()

            environment = stack.environment()
            assert environment["SKETCHY_DAGSTER_UI"] == found["stack"]["dagster_ui"]
            assert environment["SKETCHY_GATEWAY_URL"] == f"http://127.0.0.1:{ports['gateway']}"
            assert answers(f"{environment['SKETCHY_GATEWAY_URL']}/ready")
            with psycopg.connect(environment["DATABASE_URL"]) as conn:
                row = conn.execute("select rolsuper from pg_roles where rolname = current_user").fetchone()
            assert row == (False,)
            assert answers(f"http://{environment['PUBNUB_ORIGIN']}/time/0")
            # Nothing but the home folder is needed to join.
            timers = json.loads(sketchy(home, "timers", "--json").stdout)
            assert timers["lateness"]["transitions"] > 0
            assert (timers["lateness"]["early"], timers["set_aside"]) == (0, [])
            next_due = str(timers["next_deadlines"][0]["game_id"])
            for act in (("pause",), ("extend", "--seconds", "5")):
                said = sketchy(home, "games", *act, "--all-live", "--reason", "a test").stdout
                assert "nothing was changed" in said
                assert said.count("would be:") >= 4
            for words in (
                ("timers",),
                ("games", "show", next_due),
                ("flags", "list"),
                ("migrate", "verify"),
                ("pubnub", "stats"),
                ("pubnub", "tail", "--since", "0", "--limit", "1"),
                ("pubnub", "publish", "elsewhere", "1"),
                ("pubnub", "fault", "list"),
                ("play", "--games", "1", "--speed", "20"),
            ):
                joined = sketchy(home, *words)
                assert joined.returncode == 0, joined.stderr

            second = sketchy(home, "up")
            assert (second.returncode, second.stderr.count("\n")) == (1, 1)
            assert f"already run by process {stack.process.pid}" in second.stderr
            assert stack.status()["stack"]["pid"] == stack.process.pid

            stack.process.send_signal(signal.SIGINT)
            assert stack.process.wait(45) == 0, stack.said()
            assert _nothing_runs(stack)

        # So that there is something to move on at once, whatever moment the first stack was ended at.
        with EmbeddedPostgres(home) as postgres, psycopg.connect(postgres.owner_url()) as conn:
            conn.execute("update games set phase_expires_at = now() where status in ('briefing', 'drawing')")
        with RunningStack(home, ("--games", "8")) as stack:
            first = stack.wait_for("first transition", seconds=60)
            assert first <= _SECOND_START, f"{first} s\n{stack.said()}"
            # It is shown when it happens, not when Dagster, which takes longer, is up.
            said = next(line for line in stack.said().splitlines() if "first transition" in line)
            assert float(said.split()[0]) <= first + 3, stack.said()
            assert "Dagster: " not in stack.said()
            assert stack.said().index("Dagster UI: starting ...") < stack.said().index(said)
            server = EmbeddedPostgres(home)
            with pytest.raises(Exception, match="in use by process"):
                server.start()
            stack.process.kill()
            stack.process.wait()
            assert processes.wait_until(lambda: _nothing_runs(stack), seconds=20, pause=0.2)
            gone = sketchy(home, "status")
            assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)
            assert "sketchy up" in gone.stderr
        with EmbeddedPostgres(home) as postgres, psycopg.connect(postgres.owner_url()) as conn:
            row = conn.execute(
                "select count(*) filter (where at < deadline and cause = 'timer'), count(*)"
                " from orchestration.transitions"
            ).fetchone()
        assert row is not None
        early, all_of_them = row
        assert early == 0
        assert all_of_them > 0


def test_down_stops_it_from_elsewhere(home: Path) -> None:
    with RunningStack(home, ("--games", "0"), {"CRON_SECRET": "set-by-somebody"}) as stack:
        stack.wait_for("gateway: http", seconds=_FIRST_START)  # while Dagster is still on its way
        environment = stack.environment()
        assert environment["CRON_SECRET"] == "set-by-somebody"
        assert len(environment["SUPABASE_SERVICE_ROLE_KEY"]) >= 32
        done = sketchy(home, "down", "--delete-data")
        assert (done.returncode, done.stdout) == (0, "stopped\n")
        assert stack.process.wait(5) == 0
        assert _nothing_runs(stack)
        assert not (home / "postgres").exists()
    again = sketchy(home, "down")
    assert (again.returncode, "no local stack" in again.stdout) == (0, True)


def _error_of(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command says on stderr."""
    assert done.returncode == 1, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_an_unreachable_database_is_one_line(home: Path) -> None:
    url = f"postgresql://me:hidden@127.0.0.1:{processes.free_port()}/games"
    for words in (("up",), ("status",)):
        said = _error_of(sketchy(home, *words, DATABASE_URL=url))
        assert "127.0.0.1" in said
        assert "hidden" not in said


def test_a_setting_that_cannot_be_is_one_line_with_its_name(home: Path) -> None:
    assert "POSTGRES_VERSION is '17'" in _error_of(sketchy(home, "up", POSTGRES_VERSION="17"))
    assert "DATABASE_URL is (secret)" in _error_of(sketchy(home, "up", DATABASE_URL="mysql://x:y@z/w"))


@pytest.mark.parametrize(
    "given",
    [{"PUBNUB_PUBLISH_KEY": "pub"}, {"PUBNUB_SUBSCRIBE_KEY": "sub"}, {"PUBNUB_ORIGIN": "ps.pndsn.com"}],
)
def test_half_a_keyset_is_one_line_that_names_what_is_missing(home: Path, given: dict[str, str]) -> None:
    said = _error_of(sketchy(home, "up", **given))
    missing = {"PUBNUB_PUBLISH_KEY", "PUBNUB_SUBSCRIBE_KEY"} - set(given)
    assert all(f"{name}" in said.partition(" missing")[0] for name in missing)


def test_access_control_of_somebody_elses_keyset_is_not_ours_to_switch(home: Path) -> None:
    keys = {"PUBNUB_PUBLISH_KEY": "pub", "PUBNUB_SUBSCRIBE_KEY": "sub"}
    assert "PubNub's admin portal" in _error_of(sketchy(home, "up", "--enforce-access", **keys))


def test_a_data_folder_of_another_version_is_one_line(home: Path) -> None:
    with EmbeddedPostgres(home, 16):
        pass
    assert "POSTGRES_VERSION=16" in _error_of(sketchy(home, "up"))


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "SKETCHY_HOME" in _error_of(sketchy(tmp_path / "file" / "home", "up"))


@pytest.mark.long
def test_an_existing_database_is_used_and_nothing_is_invented_in_it(home: Path, database_url: str) -> None:
    given = {"DATABASE_URL": database_url, "ENVIRONMENT": "staging"}
    with RunningStack(home, ("--dagster-port", "3100"), given) as stack:
        stack.wait_for("Dagster: ", seconds=_FIRST_START)
        # What only the gateway lacks keeps no game waiting.
        assert "gateway: none; gateway ended at once: error: SUPABASE_URL or" in stack.said()
        assert "SKETCHY_GATEWAY_URL" not in stack.environment()
        assert "Postgres: yours" in stack.said()
        assert "players: none" in stack.said()
        assert not (home / "postgres").exists()
        system = stack.status()["system"]
        assert (system["enrolment"], set(system["games"].values())) == (0, {0})
        stack.process.send_signal(signal.SIGTERM)
        assert stack.process.wait(45) == 0
        assert _nothing_runs(stack)


def test_a_database_whose_role_may_not_make_the_applications_tables_is_one_line(
    home: Path, postgres: RunningPostgres, empty_database: str
) -> None:
    role = f"guest_{os.getpid()}"
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(f"create role {role} login password 'x'")
    try:
        url = postgres.url(role, "x", empty_database.rpartition("/")[2])
        said = _error_of(sketchy(home, "up", "--with-application", DATABASE_URL=url))
        assert "lacks the application's tables" in said
        assert role in said
    finally:
        with psycopg.connect(empty_database, autocommit=True) as conn:
            conn.execute(f"drop role {role}")


def test_the_applications_tables_are_made_in_a_database_only_when_asked_for_in_development(
    home: Path, empty_database: str
) -> None:
    def there() -> tuple[str | None, str | None]:
        with psycopg.connect(empty_database) as conn:
            row = conn.execute(
                "select to_regnamespace('orchestration')::text, to_regclass('public.games')::text"
            ).fetchone()
        assert row is not None
        return row[0], row[1]

    said = _error_of(sketchy(home, "up", DATABASE_URL=empty_database))
    assert "lacks the application's tables public.users, public.games" in said
    assert "--with-application" in said
    words = ("up", "--with-application")
    for environment in ("staging", "production"):
        said = _error_of(sketchy(home, *words, DATABASE_URL=empty_database, ENVIRONMENT=environment))
        assert f"ENVIRONMENT is {environment}" in said
    assert there() == (None, None)

    with RunningStack(home, ("--with-application",), {"DATABASE_URL": empty_database}) as stack:
        stack.wait_for("schema: ", seconds=_FIRST_START)
        assert there() == ("orchestration", "games")
        done = sketchy(home, "status", "--json", DATABASE_URL=empty_database)
        assert json.loads(done.stdout)["system"]["enrolment"] == 100


def test_a_database_without_our_schema_is_one_line(home: Path, empty_database: str) -> None:
    assert "sketchy migrate up" in _error_of(sketchy(home, "status", DATABASE_URL=empty_database))


def test_invented_games_are_refused_in_production(home: Path) -> None:
    assert "--games" in _error_of(sketchy(home, "up", "--games", "5", ENVIRONMENT="production"))


def test_without_a_stack_every_command_says_how_to_start_one(home: Path) -> None:
    for words in (("status",), ("env",)):
        assert "sketchy up" in _error_of(sketchy(home, *words))


def test_help_is_quick_to_read_and_names_every_command(home: Path) -> None:
    done = sketchy(home, "--help")
    assert done.returncode == 0
    assert {"up", "down", "status", "env", "migrate", "play"} <= {
        line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line.strip()
    }
    assert sketchy(home, "no-such-command").returncode == 2
    assert os.environ.get("SKETCHY_STACK") is None
