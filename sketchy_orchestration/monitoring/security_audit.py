"""The security audit: who may do what, what listens, how old the keys are, what is known to be vulnerable."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import psutil
import psycopg

from sketchy_orchestration.database import security
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.monitoring.advisories import Advisories, known_vulnerabilities
from sketchy_orchestration.monitoring.housekeeping import key_ages
from sketchy_orchestration.settings import Settings

_PARTS = ("sketchy_timer", "sketchy_relay", "sketchy_gateway", "sketchy_operator")
_OURS = ("sketchy", "dagster", "postgres")


class AuditFailedError(SketchyError):
    """The audit could not look at the database."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A program that listens, where the whole network can reach it."""

    program: str
    address: str
    port: int


@dataclass(slots=True)
class Audit:
    """What was found.

    Attributes:
        breaches: rules that the database's catalogue breaks.
        grants: the role matrix, by table and role.
        exposed: programs of ours that listen beyond this machine.
        unseen: why listeners could not be looked at; empty when they were.
        keys: one line for each key.
    """

    breaches: list[str]
    grants: dict[str, dict[str, str]]
    logins: list[str]
    database_listens_on: str
    exposed: list[Listener]
    unseen: str
    keys: list[str]
    advisories: Advisories
    keys_due: int = 0

    @property
    def findings(self) -> int:
        """How many things a person should look at."""
        return len(self.breaches) + len(self.exposed) + self.keys_due + len(self.advisories.found)

    def markdown(self) -> str:
        """As a report."""
        lines = [f"**security audit**: {self.findings} findings", "", "## Rules of the database"]
        lines += [f"- {breach}" for breach in self.breaches] or ["- none is broken"]
        lines += [
            "",
            "## Role matrix",
            "",
            "s select, i insert, u update, d delete; capitals: some columns",
            "",
        ]
        lines += [f"| table | {' | '.join(_PARTS)} | others |", "|---|" + "---|" * (len(_PARTS) + 1)]
        for table, by_role in self.grants.items():
            others = ", ".join(
                f"{role}: {letters}" for role, letters in by_role.items() if letters and role not in _PARTS
            )
            lines.append(f"| {table} | {' | '.join(by_role.get(role, '') for role in _PARTS)} | {others} |")
        lines += ["", "Logins:", *(f"- {login}" for login in self.logins or ["none but the owner's"])]
        lines += [
            "",
            "## Exposed ports",
            f"- the database listens on {self.database_listens_on or 'no network'}",
        ]
        lines += [f"- {one.program} listens on {one.address}:{one.port}" for one in self.exposed] or (
            [f"- could not be looked at: {self.unseen}"]
            if self.unseen
            else ["- nothing of ours beyond this machine"]
        )
        lines += ["", "## Keys", *(f"- {line}" for line in self.keys or ["no dates in KEYS_ROTATED"])]
        lines += ["", "## Known vulnerabilities", *self._vulnerabilities()]
        return "\n".join(lines) + "\n"

    def _vulnerabilities(self) -> list[str]:
        known = self.advisories
        if not known.asked:
            return [f"- not known: {known.packages} packages could not be looked up ({known.reason})"]
        found = [f"- {package}: {', '.join(ids)}" for package, ids in known.found.items()]
        return found or [f"- none in {known.packages} packages"]


def audit(settings: Settings) -> Audit:
    """Look at everything once; changes nothing.

    Raises:
        SketchyError: the database is away, or this role may not look.
    """
    try:
        with connect(settings, Role.owner, application_name="sketchy security audit") as connection:
            breaches = security.lint(connection)
            grants: dict[str, dict[str, str]] = {}
            for grant in security.matrix(connection):
                grants.setdefault(grant.table_name, {})[grant.role] = grant.letters
            logins = [
                f"{login.rolname} as {login.part}"
                + (f", until {login.rolvaliduntil:%Y-%m-%d}" if login.rolvaliduntil else "")
                for login in security.logins(connection)
            ]
            listens_on = security.listens_on(connection)
    except psycopg.Error as error:
        raise AuditFailedError(f"the audit stopped: {' '.join(str(error).split())}") from None
    exposed, unseen = listeners()
    keys = key_ages(settings, record=False)
    return Audit(
        breaches=breaches,
        grants=grants,
        logins=logins,
        database_listens_on=listens_on,
        exposed=exposed,
        unseen=unseen,
        keys=[*keys.details, *keys.kept],
        advisories=known_vulnerabilities(settings.advisories_url),
        keys_due=keys.made.get("keys due", 0),
    )


def listeners() -> tuple[list[Listener], str]:
    """Programs of ours that listen on more than loopback; or nothing, and why nobody could look."""
    found = []
    try:
        for connection in psutil.net_connections(kind="tcp"):
            at = connection.laddr
            if connection.status != psutil.CONN_LISTEN or not at or _is_loopback(at.ip):
                continue
            program = _program(connection.pid)
            if any(word in program for word in _OURS):
                found.append(Listener(program, at.ip, at.port))
    except (psutil.AccessDenied, OSError) as error:
        return [], f"{type(error).__name__}: {error}"
    return sorted(set(found), key=lambda one: (one.port, one.address)), ""


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    # A socket of both families tells an IPv4 address in the clothes of IPv6.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _program(pid: int | None) -> str:
    """What a person would call it; arguments may hold secrets and are not shown."""
    if pid is None:
        return "unknown"
    try:
        process = psutil.Process(pid)
        words = [word.rpartition("/")[2] for word in process.cmdline()[:4] if not word.startswith("-")]
        named = [word for word in words if any(ours in word for ours in _OURS)]
        return named[0] if named else process.name()
    except psutil.Error:
        return "unknown"
