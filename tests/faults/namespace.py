"""A network namespace with a cable to Postgres and one to PubNub; each can be pulled (Linux, root)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_LAST_RESORT = "4000"


class NotPossibleError(Exception):
    """Why there is no namespace here."""


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode != 0:
        raise NotPossibleError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace; `prefix` begins a command that runs in it, `near` are our ends of its cables."""

    name: str
    near: tuple[str, str]
    cables: tuple[str, str]

    @property
    def prefix(self) -> tuple[str, ...]:
        program = shutil.which("ip") or "ip"
        return (program, "netns", "exec", self.name)

    def pull(self, number: int) -> None:
        """Nothing passes any more, and nobody is told."""
        _ip("link", "set", self.cables[number], "down")

    def plug(self, number: int) -> None:
        """Everything passes again."""
        _ip("link", "set", self.cables[number], "up")


@contextmanager
def namespace(number: int = 0) -> Iterator[Namespace]:
    """A namespace with two cables; one of several at a time has a `number` of its own (0 to 62).

    Raises:
        NotPossibleError: this is not root on a Linux that lets it.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise NotPossibleError("network namespaces need root and the program ip")
    name = f"sketchy{os.getpid()}n{number}"
    third, last = os.getpid() % 250, 4 * number
    networks = (f"10.213.{third}", f"10.214.{third}")
    cables = (f"sk{os.getpid()}n{number}a", f"sk{os.getpid()}n{number}b")
    try:
        _ip("netns", "add", name)
        for cable, network in zip(cables, networks, strict=True):
            inside = f"{cable}i"
            _ip("link", "add", cable, "type", "veth", "peer", "name", inside)
            _ip("link", "set", inside, "netns", name)
            _ip("addr", "add", f"{network}.{last + 1}/30", "dev", cable)
            _ip("link", "set", cable, "up")
            # Without it, what is sent to a pulled cable would leave by this machine's way to everywhere else.
            _ip("route", "add", "blackhole", f"{network}.{last}/30", "metric", _LAST_RESORT)
            _ip("-n", name, "addr", "add", f"{network}.{last + 2}/30", "dev", inside)
            _ip("-n", name, "link", "set", inside, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        first, second = (f"{network}.{last + 1}" for network in networks)
        yield Namespace(name, (first, second), cables)
    finally:
        for cable, network in zip(cables, networks, strict=True):
            with suppress(NotPossibleError):
                _ip("route", "del", "blackhole", f"{network}.{last}/30", "metric", _LAST_RESORT)
            with suppress(NotPossibleError):
                _ip("link", "del", cable)
        with suppress(NotPossibleError):
            _ip("netns", "del", name)
