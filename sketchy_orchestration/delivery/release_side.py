"""What a deployment asks of the release it deploys, run by that release's own interpreter.

Usage: python -m sketchy_orchestration.delivery.release_side version|pending|migrate   (one line of JSON)
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

from sketchy_orchestration.database import migrate
from sketchy_orchestration.delivery.deployment_host import HostError, environment_of
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings, settings
from sketchy_orchestration.version import Version, this_version

_ASK_SECONDS = 120.0

# What the release before could still need. A function replaced with the same arguments is no contraction.
_CONTRACTS = re.compile(
    r"\b(drop\s+(?:table|column|type|schema|view|index)|rename\s+(?:to|column)|alter\s+column\s+\w+\s+"
    r"(?:set\s+data\s+)?type|alter\s+column\s+\w+\s+set\s+not\s+null|truncate)\b",
    re.IGNORECASE,
)


def contractions(text: str) -> list[str]:
    """What in a migration takes something away; the release before would miss it."""
    without_comments = re.sub(r"--[^\n]*", "", text)
    # Inside a function's body it happens when somebody calls it, not now.
    outside = re.sub(r"\$(\w*)\$.*?\$\1\$", "", without_comments, flags=re.DOTALL)
    return [" ".join(found.group().split()).lower() for found in _CONTRACTS.finditer(outside)]


def ask(what: str, own: Settings, *, python: str = sys.executable, path: str = "") -> Any:
    """Ask another release.

    Raises:
        HostError: it cannot answer; with what it said.
    """
    done = subprocess.run(
        [python, "-m", "sketchy_orchestration.delivery.release_side", what],
        env={**os.environ, **environment_of(own), **({"PYTHONPATH": path} if path else {})},
        cwd=path or None,
        capture_output=True,
        text=True,
        timeout=_ASK_SECONDS * (10 if what == "migrate" else 1),
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    try:
        answer = (
            json.loads(lines[-1])
            if lines
            else {"error": (done.stderr.strip().splitlines() or ["silent"])[-1]}
        )
    except ValueError:
        answer = {"error": lines[-1]}
    if "error" in answer:
        raise HostError(f"the release at {path or python} says: {answer['error']}")
    return answer["answer"]


def version_of(own: Settings, *, python: str = sys.executable, path: str = "") -> Version:
    """The exact version of another release with these settings."""
    return Version(**ask("version", own, python=python, path=path))


def _answer(what: str) -> Any:
    own = settings()
    if what == "version":
        return this_version(own).as_dict()
    if own.database_url is None:
        raise SketchyError("DATABASE_URL of the owner is needed for migrations")
    url = own.database_url.get_secret_value()
    if what == "pending":
        return {str(one): contractions(one.up) for one in migrate.pending(url)}
    if what == "migrate":
        return [f"{step.number:04d}_{step.name}" for step in migrate.migrate_up(url, told=lambda _: None)]
    raise SketchyError(f"unknown question {what!r}: version, pending, migrate")


def main() -> None:
    """Answer one question on standard output."""
    try:
        answer = {"answer": _answer(sys.argv[1])}
    except SketchyError as error:
        answer = {"error": error.in_one_line()}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
