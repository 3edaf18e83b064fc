"""`sketchy play`, as a person runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.pubnub.keyset import Keyset

COMMAND = [sys.executable, "-m", "sketchy_orchestration.cli.main", "play"]


@pytest.fixture
def surroundings(application_url: str, keyset: Keyset, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        # Where no stack runs that could be joined.
        "SKETCHY_HOME": str(tmp_path),
        "DATABASE_URL": application_url,
        "PUBNUB_ORIGIN": keyset.origin,
        "PUBNUB_SSL": "false",
        "PUBNUB_PUBLISH_KEY": keyset.publish_key.get_secret_value(),
        "PUBNUB_SUBSCRIBE_KEY": keyset.subscribe_key.get_secret_value(),
    }


def run(surroundings: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], env=surroundings, capture_output=True, text=True, timeout=100, check=False
    )


def test_legacy_games_are_played_and_summed_up(surroundings: Mapping[str, str]) -> None:
    done = run(
        surroundings, "--games", "2", "--speed", "10", "--with-legacy", "--legacy-every", "0.3", "--json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert (report["completed"], report["legacy_games"], report["violations"]) == (2, 2, {})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--players", "9"], "players is 9; it must be between 2 and 8"),
        (["--round-seconds", "5"], "round-seconds is 5; it must be between 30 and 300"),
    ],
)
def test_wrong_wishes_are_refused_in_one_line(
    surroundings: Mapping[str, str], words: list[str], message: str
) -> None:
    done = run(surroundings, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == f"error: {message}"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DATABASE_URL", "", "set DATABASE_URL"),
        ("DATABASE_URL", "postgresql://a:hidden@127.0.0.1:1/b", "no players at a@127.0.0.1:1/b"),
        ("PUBNUB_SUBSCRIBE_KEY", "", "PUBNUB_SUBSCRIBE_KEY not set"),
        ("PUBNUB_ORIGIN", "127.0.0.1:1", "PubNub at 127.0.0.1:1"),
    ],
)
def test_what_is_missing_is_named_in_one_line(
    surroundings: dict[str, str], name: str, value: str, message: str
) -> None:
    done = run({**surroundings, name: value}, "--games", "1")
    assert done.returncode == 1
    assert message in done.stderr
    assert "hidden" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_play_ends_at_once_with_its_summary(
    surroundings: Mapping[str, str], application_url: str, number: signal.Signals
) -> None:
    playing = subprocess.Popen(
        [*COMMAND, "--games", "3", "--forever", "--json"], env=surroundings, stdout=subprocess.PIPE, text=True
    )
    try:
        with psycopg.connect(application_url, autocommit=True) as conn:

            def begun() -> bool:
                row = conn.execute("select count(*) from public.games where status = 'briefing'").fetchone()
                return row is not None and row[0] == 3

            assert wait_until(begun, seconds=30)
        playing.send_signal(number)
        output, _ = playing.communicate(timeout=15)
    finally:
        playing.kill()
        playing.wait()
    assert playing.returncode == 0
    assert json.loads(output)["started"] == 3
