"""What the running stack tells others about itself, in files that only its owner can read."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.local import processes
from sketchy_orchestration.settings import Settings


class StackNotRunningError(SketchyError):
    """No stack runs in this home folder."""


@dataclass(frozen=True)
class PartState:
    """One program of the stack."""

    name: str
    pid: int
    port: int | None
    log: str
    restarts: int = 0

    @property
    def alive(self) -> bool:
        return processes.alive(self.pid)


@dataclass(frozen=True)
class StackState:
    """Who runs the stack since when, and how to join it.

    Attributes:
        pid, created: the process of `sketchy up` and when it started (s since 1970).
        started_at: ISO 8601, UTC.
        environment: what another client needs, by setting name; holds secrets.
        dagster_ui: its address; None until it is up.
    """

    pid: int
    created: float
    started_at: str
    environment: dict[str, str] = field(repr=False)
    parts: list[PartState] = field(default_factory=list)
    dagster_ui: str | None = None

    @property
    def alive(self) -> bool:
        return processes.alive(self.pid, since=self.created)


def mark_of(home: Path) -> str:
    """The mark that all programs of the stack in this home folder carry."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]


def write(home: Path, state: StackState) -> None:
    """Replace the state file at once, so that a reader sees all of one state."""
    write_private(home / "stack.json", json.dumps(asdict(state), indent=2))


def read(home: Path) -> StackState | None:
    """The running stack of this home folder; None when none runs."""
    try:
        found = json.loads((home / "stack.json").read_text(encoding="utf-8"))
        found["parts"] = [PartState(**part) for part in found["parts"]]
        state = StackState(**found)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return state if state.alive else None


def running(home: Path) -> StackState:
    """The running stack of this home folder.

    Raises:
        StackNotRunningError: none runs.
    """
    state = read(home)
    if state is None:
        raise StackNotRunningError(
            f"no local stack is running in {home}: start it with `sketchy up` (or make up),"
            " or set DATABASE_URL to look at another system"
        )
    return state


def forget(home: Path) -> None:
    """Remove the state file."""
    (home / "stack.json").unlink(missing_ok=True)


TOLD = ("SUPABASE_SERVICE_ROLE_KEY", "CRON_SECRET", "SUPABASE_JWT_SECRET")
"""Secrets that whoever joins the stack is told, so that it can call the gateway."""


def generated_secrets(home: Path) -> dict[str, str]:
    """Secrets of the local stack by setting name, made once and kept (mode 600)."""
    path = home / "secrets.json"
    kept: dict[str, str] = {}
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
    names = (*TOLD, "PUBNUB_SECRET_KEY", "DAGSTER_PASSWORD")
    missing = {name: secrets.token_urlsafe(32) for name in names if name not in kept}
    if missing:
        kept |= missing
        write_private(path, json.dumps(kept))
    return kept


def stack_secrets(home: Path, settings: Settings) -> dict[str, str]:
    """The stack's secrets: those that somebody set, and others therefore know, before generated ones.

    Where published keys sign players' tokens there is no secret of ours for them.
    """
    given = {
        "SUPABASE_SERVICE_ROLE_KEY": settings.supabase_service_role_key,
        "CRON_SECRET": settings.cron_secret,
        "SUPABASE_JWT_SECRET": settings.supabase_jwt_secret,
    }
    known = {name: secret.get_secret_value() for name, secret in given.items() if secret is not None}
    found = generated_secrets(home) | known
    if settings.supabase_jwt_secret is None and (settings.supabase_jwks_url or settings.supabase_url):
        del found["SUPABASE_JWT_SECRET"]
    return found


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, at once."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.replace(path)
