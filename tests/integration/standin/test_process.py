"""The stand-in as a process, and the command line that runs and steers it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig, StandInError
from tests.integration.standin.wire import Wire, until

_LIMIT_SECONDS = 30
_ELSEWHERE = tempfile.gettempdir()  # where no .env of a running stack lies
MODULE = [sys.executable, "-m", "sketchy_orchestration.local.pubnub"]
CLI = [sys.executable, "-m", "sketchy_orchestration.cli.main", "pubnub"]


def _environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PUBNUB_")}
    return {**clean, **more}


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments],
        capture_output=True,
        text=True,
        timeout=_LIMIT_SECONDS,
        env=_environment(**environment),
        cwd=_ELSEWHERE,
        check=False,
    )


@contextmanager
def _serving(*command: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_ELSEWHERE,
        env=_environment(**environment),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        yield process, line.strip().removeprefix("listening on http://")
    finally:
        process.kill()
        process.communicate(timeout=_LIMIT_SECONDS)


@pytest.mark.parametrize("command", [MODULE, [*CLI, "serve"]], ids=["module", "cli"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_told_to_stop(command: list[str], number: signal.Signals) -> None:
    with _serving(*command, "--port", "0") as (process, origin):
        assert _run("publish", "room", '{"a":1}', "--origin", origin).returncode == 0
        process.send_signal(number)
        assert process.wait(_LIMIT_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("command", [MODULE, [*CLI, "serve"]], ids=["module", "cli"])
def test_a_busy_port_is_one_clear_line(command: list[str], local_pubnub: LocalPubNub) -> None:
    port = local_pubnub.origin.split(":")[1]
    failed = subprocess.run(
        [*command, "--port", port], capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
    )
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert f"port {port} on 127.0.0.1 cannot be used" in failed.stderr
    with pytest.raises(StandInError, match="cannot be used"):
        LocalPubNub(StandInConfig(port=int(port))).start()


def test_keys_and_record_come_from_the_environment_and_options(tmp_path: Path) -> None:
    file = tmp_path / "accepted.jsonl"
    keys = {"PUBNUB_PUBLISH_KEY": "pub-mine", "PUBNUB_SUBSCRIBE_KEY": "sub-mine", "PUBNUB_SECRET_KEY": "sec"}
    with _serving(*CLI, "serve", "--port", "0", "--record", str(file), **keys) as (process, origin):
        refused = _run("publish", "room", "1", "--origin", origin)
        assert refused.returncode == 1
        assert "Invalid Key" in refused.stderr
        accepted = _run("publish", "room", "1", "--no-store", PUBNUB_ORIGIN=origin, **keys)
        assert accepted.returncode == 0, accepted.stderr
        process.send_signal(signal.SIGTERM)
        process.wait(_LIMIT_SECONDS)
    (line,) = [json.loads(text) for text in file.read_text().splitlines()]
    assert line["timetoken"] == accepted.stdout.strip()
    assert line["stored"] is False


def test_publish_tail_and_stats(local_pubnub: LocalPubNub) -> None:
    origin = local_pubnub.origin
    timetoken = _run("publish", "room-1", '{"text":"zoë"}', "--origin", origin).stdout.strip()
    assert _run("publish", "hall", '"x"', "--signal", "--origin", origin).returncode == 0
    shown = _run("tail", "--since", "0", "--limit", "2", "--origin", origin)
    first, second = shown.stdout.splitlines()
    assert first == f'{timetoken} room-1 {{"text": "zoë"}}'
    assert "hall signal" in second
    only = _run("tail", "--since", "0", "--limit", "1", "--channel", "hall*", "--json", "--origin", origin)
    assert json.loads(only.stdout)["operation"] == "signal"
    stats = json.loads(_run("stats", "--json", "--origin", origin).stdout)
    assert (stats["accepted"], stats["requests"]["signal"]) == (2, 1)
    assert "accepted" in _run("stats", "--origin", origin).stdout


def test_tail_shows_what_comes_while_it_watches(local_pubnub: LocalPubNub) -> None:
    wire = Wire(local_pubnub)
    wire.publish("room", "before")
    watcher = subprocess.Popen(
        [*CLI, "tail", "--json", "--limit", "3", "--origin", local_pubnub.origin],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # It starts with what comes now, so publish until it has seen enough.
        until(lambda: [wire.publish("room", "during")] and watcher.poll() is not None, _LIMIT_SECONDS)
        assert watcher.stdout is not None
        shown = [json.loads(line)["message"] for line in watcher.stdout]
        assert shown == ["during"] * 3
        assert watcher.returncode == 0
    finally:
        watcher.kill()
        watcher.communicate(timeout=_LIMIT_SECONDS)


def test_faults_are_switched_while_it_runs(local_pubnub: LocalPubNub) -> None:
    wire, origin = Wire(local_pubnub), ("--origin", local_pubnub.origin)
    on = _run(
        "fault", "on", "status", "--status", "500", "--operation", "publish", "--channel", "room-*", *origin
    )
    assert on.stdout.strip() == "1", on.stderr
    assert wire.publish("room-1", 1).status == 500
    assert wire.publish("hall", 1).status == 200
    listed = _run("fault", "list", *origin).stdout
    assert "status" in listed
    assert "room-*" in listed
    assert _run("fault", "off", "1", *origin).stdout.strip() == "1 switched off"
    assert wire.publish("room-1", 1).status == 200
    assert _run("fault", "list", *origin).stdout.strip() == "no fault is on"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("stats", "--origin", "127.0.0.1:1"), "nothing answers at 127.0.0.1:1"),
        (("stats", "--origin", "nonsense"), "is not an origin"),
        (("publish", "room", "no json"), "is not JSON"),
        (("serve", "--enforce-access", "--port", "0"), "needs a secret_key"),
        (("serve", "--publish-rate", "0", "--port", "0"), "publish_rate is 0"),
        (("serve", "--record", "/proc/nowhere/file", "--port", "0"), "cannot write the record"),
    ],
)
def test_an_error_is_one_line_and_exit_code_one(arguments: tuple[str, ...], text: str) -> None:
    failed = _run(*arguments)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.count("\n") == 1
    assert failed.stderr.startswith("error: ")
    assert text in failed.stderr


def test_wrong_faults_are_one_line_too(local_pubnub: LocalPubNub) -> None:
    for arguments, text in (
        (("fault", "on", "hang", "--share", "2"), "share is 2.0"),
        (("fault", "on", "hang", "--operation", "eat"), "unknown operation 'eat'"),
        (("fault", "off", "9"), "there is no fault 9"),
        (("publish", "a b", "1"), "Invalid Channel"),
    ):
        failed = _run(*arguments, "--origin", local_pubnub.origin)
        assert failed.returncode == 1
        assert failed.stderr.count("\n") == 1
        assert text in failed.stderr


def test_what_answers_but_is_no_stand_in(local_pubnub: LocalPubNub) -> None:
    local_pubnub.faults.on("html")
    assert (
        _run("stats", "--origin", local_pubnub.origin).returncode == 0
    )  # faults do not touch the control endpoint
    failed = _run("publish", "room", "1", "--origin", local_pubnub.origin)
    assert "is not a local PubNub" in failed.stderr


@pytest.mark.parametrize("command", ["serve", "tail", "publish", "fault", "stats", "fault on", "fault off"])
def test_help_has_examples(command: str) -> None:
    shown = _run(*command.split(), "--help")
    assert shown.returncode == 0
    assert command == "fault" or "Example" in shown.stdout


def test_it_can_be_started_again_and_says_when_it_does_not_run() -> None:
    pubnub = LocalPubNub()
    for _ in range(2):
        with pubnub:
            assert Wire(pubnub).publish("room", 1).status == 200
            with pytest.raises(StandInError, match="running already"):
                pubnub.start()
    with pytest.raises(StandInError, match="does not run"):
        pubnub.record()
