"""How each program of the stack is called, and how one sees that it is ready."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from sketchy_orchestration.local import processes, stack_dagster
from sketchy_orchestration.local.stack_keyset import LOCAL_KEYS
from sketchy_orchestration.local.stack_parts import Part, Parts, answers

_SKETCHY = (sys.executable, "-m", "sketchy_orchestration.cli.main")
GATEWAY_VARIABLE = "SKETCHY_GATEWAY_URL"
_SHIFTS = {"timer-bridge": "timer", "fanout-bridge": "fanout"}


def pubnub(parts: Parts, port: int, *, enforce_access: bool) -> Part:
    """The local PubNub; its secret key is in the environment."""
    publish_key, subscribe_key = LOCAL_KEYS
    return parts.add(
        "pubnub",
        lambda chosen: [
            *(sys.executable, "-m", "sketchy_orchestration.local.pubnub", "--port", str(chosen)),
            *("--publish-key", publish_key, "--subscribe-key", subscribe_key),
            *(["--enforce-access"] if enforce_access else []),
        ],
        port=port,
        is_ready=lambda chosen: answers(f"http://127.0.0.1:{chosen}/time/0"),
    )


def players(parts: Parts, games: int) -> Part:
    """Players of so many games at any time."""
    return parts.add("players", lambda _: [*_SKETCHY, "play", "--games", str(games), "--forever"])


def gateway(parts: Parts, port: int) -> Part:
    """The HTTP functions."""
    return parts.add(
        "gateway",
        lambda chosen: [*_SKETCHY, "gateway", "--host", "127.0.0.1", "--port", str(chosen)],
        port=port,
        is_ready=lambda chosen: answers(f"http://127.0.0.1:{chosen}/ready"),
    )


def watchdog(parts: Parts) -> Part:
    """The watch that goes on when Dagster does not."""
    return parts.add("watchdog", lambda _: [*_SKETCHY, "watchdog"])


def bridges(parts: Parts) -> list[Part]:
    """Shifts that need no Dagster, whose loading takes seconds."""
    return [parts.add(name, _shift(kind)) for name, kind in _SHIFTS.items()]


def _shift(kind: str) -> Callable[[int], list[str]]:
    return lambda _: [*_SKETCHY, "shift", kind]


def bridged(parts: Parts) -> dict[Part, str]:
    """The bridges still at work, with the kind of shift each is."""
    return {part: _SHIFTS[part.name] for part in parts if part.name in _SHIFTS}


def code_server(parts: Parts) -> Part:
    """Dagster's process with our definitions."""
    return parts.add(
        "code-server",
        stack_dagster.code_server_command,
        port=processes.free_port(),
        is_ready=lambda port: not processes.is_free(port),
    )


def daemon(parts: Parts, workspace: Path, database_url: str) -> Part:
    """Dagster's sensors, schedules and queue."""
    return parts.add(
        "dagster-daemon",
        lambda _: stack_dagster.daemon_command(workspace),
        is_ready=lambda _: stack_dagster.daemon_beats(database_url),
        patience=90,
        # It waits for its threads, though nothing it does is lost when it does not.
        stop_seconds=2.0,
    )


def webserver(parts: Parts, workspace: Path, port: int) -> Part:
    """Dagster's UI."""
    return parts.add(
        "dagster-webserver",
        lambda chosen: stack_dagster.webserver_command(workspace, chosen),
        port=port,
        is_ready=lambda chosen: answers(f"http://127.0.0.1:{chosen}/server_info"),
        patience=90,
    )
