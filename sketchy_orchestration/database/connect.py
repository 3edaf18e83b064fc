"""Connections: one factory, one role each, errors that say what to do and never show a password."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from sketchy_orchestration.database.pooler import keeps_sessions
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

Row = tuple[Any, ...]


class Role(StrEnum):
    """Who connects: the owner of the schema, or one of the running parts with only what it needs."""

    owner = "owner"
    timer = "timer"
    relay = "relay"
    gateway = "gateway"
    operator = "operator"

    @property
    def database_role(self) -> str | None:
        """The role in Postgres; None for the owner, who is whoever DATABASE_URL says."""
        return None if self is Role.owner else f"sketchy_{self}"

    @property
    def setting(self) -> str:
        """The setting that holds this role's own connection."""
        return "database_url" if self is Role.owner else f"{self}_database_url"


class DatabaseNotSetError(SketchyError):
    """No connection is configured."""


class DatabaseUnreachableError(SketchyError):
    """Nobody answers at the address, or the address itself is wrong."""


class DatabaseRefusedError(SketchyError):
    """The server answered and said no: wrong password, no such database, no connection left."""


class RoleMissingError(SketchyError):
    """The role does not exist, or the connecting user may not become it."""


class SessionsNeededError(SketchyError):
    """The address is a pooler in transaction mode; leases and listening need a session."""


# A dead peer is noticed within about 5 + 3 * 2 s instead of the two hours of the system's default.
KEEPALIVES: dict[str, str] = {
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "11000",
    "connect_timeout": "5",
}

_ENTER: LiteralString = """
    select pg_backend_pid(), current_user::text,
           set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)
"""
_ENTER_TRANSACTION: LiteralString = """
    select set_config('role', coalesce(%s, current_user::text), true),
           set_config('statement_timeout', %s, true)
"""
_BECOME: LiteralString = "select set_config('role', %s, false)"


@dataclass(frozen=True)
class Address:
    """Where to connect and as whom; `parameters` holds the password, `str()` does not."""

    parameters: dict[str, str]
    role: str | None
    setting: str

    @classmethod
    def of_url(cls, url: str, role: str | None = None, setting: str = "DATABASE_URL") -> Address:
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
        except psycopg.Error as error:
            # Only this message of the parser is sure not to quote a part of the password.
            why = (
                str(error).strip() if "query parameter" in str(error) else "percent-encode special characters"
            )
            raise DatabaseUnreachableError(
                f"{setting} is not a connection URL: {why}; "
                "it must look like postgresql://user:password@host:5432/database"
            ) from None
        return cls({**KEEPALIVES, **given}, role, setting)

    @classmethod
    def of_role(cls, settings: Settings, role: Role) -> Address:
        own: SecretStr | None = getattr(settings, role.setting)
        if own is not None:
            return cls.of_url(own.get_secret_value(), setting=role.setting.upper())
        if settings.database_url is None:
            raise DatabaseNotSetError(
                'DATABASE_URL is not set: set it, or start the local stack and run eval "$(sketchy env)"'
            )
        return cls.of_url(settings.database_url.get_secret_value(), role.database_role)

    def __str__(self) -> str:
        p = self.parameters
        user = f"{p['user']}@" if "user" in p else ""
        return f"{user}{p.get('host', 'localhost')}:{p.get('port', '5432')}/{p.get('dbname', '')}"

    __repr__ = __str__

    def conninfo(self, application_name: str, *, role_at_start: bool = True) -> str:
        """What libpq takes; with the role taken at start-up, so that RESET and DISCARD come back to it."""
        more = {"application_name": application_name}
        if self.role is not None and role_at_start:
            more["options"] = f"{self.parameters.get('options', '')} -c role={self.role}".strip()
        return make_conninfo("", **{**self.parameters, **more})

    def hide(self, text: str) -> str:
        """`text` on one line, without the password."""
        line = (
            " ".join(text.split()).removeprefix("connection failed: ").partition(" Is the server running")[0]
        )
        password = self.parameters.get("password", "")
        return line.replace(password, "***") if password else line


def explained(error: psycopg.Error, at: Address) -> SketchyError:
    """A failure to connect, or of the connection, as one of this module's errors."""
    text = at.hide(str(error))
    said = text.rpartition("FATAL: ")[2].strip() if "FATAL:" in text else text
    user = at.parameters.get("user", "the user")
    if "password authentication failed" in text or "no password supplied" in text:
        return DatabaseRefusedError(f"{at} refused the password of {user}: correct it in {at.setting}")
    if "permission denied to set role" in text:
        return RoleMissingError(
            f"{user} may not become {at.role} at {at}: run `sketchy migrate up` as the owner of the schema, "
            f"or grant {at.role} to {user}"
        )
    if 'role "sketchy_' in text and "does not exist" in text:
        return RoleMissingError(f"{said} at {at}: the migrations are not applied, run `sketchy migrate up`")
    if "FATAL:" in text and "starting up" not in text and "shutting down" not in text:
        return DatabaseRefusedError(f"{at} refused the connection: {said} ({at.setting})")
    return DatabaseUnreachableError(f"no database at {at}: {said}; is it running, and is {at.setting} right?")


def _refuses_options(error: psycopg.Error) -> bool:
    return "unsupported startup parameter" in str(error)


def _sessions_needed(at: Address) -> SessionsNeededError:
    return SessionsNeededError(
        f"{at} is a connection pooler in transaction mode and sessions are needed: "
        f"use the session port in {at.setting} (on Supabase 5432, not 6543)"
    )


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def connect_to(
    at: Address,
    *,
    application_name: str,
    autocommit: bool = True,
    statement_timeout: float = 30.0,
    lock_timeout: float = 5.0,
) -> psycopg.Connection[Row]:
    """As `connect`, for an address that does not come from the settings."""
    try:
        try:
            connection = psycopg.connect(at.conninfo(application_name), autocommit=True)
        except psycopg.OperationalError as error:
            if not _refuses_options(error):
                raise
            connection = psycopg.connect(at.conninfo(application_name, role_at_start=False), autocommit=True)
    except psycopg.Error as error:
        raise explained(error, at) from None
    try:
        timeouts = [_milliseconds(statement_timeout), _milliseconds(lock_timeout)]
        row = connection.execute(_ENTER, timeouts).fetchone()
        if row and row[0] != connection.info.backend_pid and not keeps_sessions(at.parameters):
            raise _sessions_needed(at)
        if row and at.role is not None and row[1] != at.role:
            connection.execute(_BECOME, [at.role])
        connection.autocommit = autocommit
    except BaseException as error:
        connection.close()
        if isinstance(error, psycopg.Error):
            raise explained(error, at) from None
        raise
    return connection


async def connect_to_async(
    at: Address,
    *,
    application_name: str,
    autocommit: bool = True,
    statement_timeout: float = 30.0,
    lock_timeout: float = 5.0,
) -> psycopg.AsyncConnection[Row]:
    """As `connect_to`, on the running event loop."""
    try:
        try:
            connection = await psycopg.AsyncConnection.connect(at.conninfo(application_name), autocommit=True)
        except psycopg.OperationalError as error:
            if not _refuses_options(error):
                raise
            connection = await psycopg.AsyncConnection.connect(
                at.conninfo(application_name, role_at_start=False), autocommit=True
            )
    except psycopg.Error as error:
        raise explained(error, at) from None
    try:
        timeouts = [_milliseconds(statement_timeout), _milliseconds(lock_timeout)]
        row = await (await connection.execute(_ENTER, timeouts)).fetchone()
        pooled = row is not None and row[0] != connection.info.backend_pid
        if pooled and not await asyncio.to_thread(keeps_sessions, at.parameters):
            raise _sessions_needed(at)
        if row and at.role is not None and row[1] != at.role:
            await connection.execute(_BECOME, [at.role])
        await connection.set_autocommit(autocommit)
    except BaseException as error:
        await connection.close()
        if isinstance(error, psycopg.Error):
            raise explained(error, at) from None
        raise
    return connection


def connect(
    settings: Settings,
    role: Role,
    *,
    autocommit: bool = True,
    application_name: str | None = None,
    statement_timeout: float = 30.0,
    lock_timeout: float = 5.0,
) -> psycopg.Connection[Row]:
    """A session as `role`: through the role's own URL, else through DATABASE_URL becoming that role.

    Args:
        application_name: as seen in pg_stat_activity; `sketchy <role>` when not given.
        statement_timeout: seconds; 0 is none. lock_timeout: seconds; 0 is none.

    Raises:
        DatabaseNotSetError, DatabaseUnreachableError, DatabaseRefusedError, RoleMissingError,
        SessionsNeededError: one line each, without the password.
    """
    return connect_to(
        Address.of_role(settings, role),
        application_name=application_name or f"sketchy {role}",
        autocommit=autocommit,
        statement_timeout=statement_timeout,
        lock_timeout=lock_timeout,
    )


@contextmanager
def look(
    settings: Settings, role: Role, *, application_name: str, statement_timeout: float = 30.0
) -> Iterator[psycopg.Connection[Row]]:
    """One transaction as `role`, undone at its end: to look, also through a pooler in transaction mode.

    Raises:
        SketchyError: as `connect`, but for SessionsNeededError.
    """
    at = Address.of_role(settings, role)
    try:
        connection = psycopg.connect(
            at.conninfo(application_name, role_at_start=False), prepare_threshold=None
        )
    except psycopg.Error as error:
        raise explained(error, at) from None
    with closing(connection):
        try:
            # A pooler may know another role than its server's, so it is taken within the transaction.
            connection.execute(_ENTER_TRANSACTION, [at.role, _milliseconds(statement_timeout)])
        except psycopg.Error as error:
            raise explained(error, at) from None
        yield connection


async def connect_async(
    settings: Settings,
    role: Role,
    *,
    autocommit: bool = True,
    application_name: str | None = None,
    statement_timeout: float = 30.0,
    lock_timeout: float = 5.0,
) -> psycopg.AsyncConnection[Row]:
    """As `connect`, on the running event loop."""
    return await connect_to_async(
        Address.of_role(settings, role),
        application_name=application_name or f"sketchy {role}",
        autocommit=autocommit,
        statement_timeout=statement_timeout,
        lock_timeout=lock_timeout,
    )
