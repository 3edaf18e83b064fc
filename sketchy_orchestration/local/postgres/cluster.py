"""The data folder of an embedded Postgres: making it, its configuration, its passwords."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres.errors import EmbeddedPostgresError, OtherVersionError
from sketchy_orchestration.local.postgres.folders import Folders
from sketchy_orchestration.local.processes import Account

SUPERUSER = "sketchy_superuser"
OWNER = "sketchy_owner"
DATABASE = "sketchy"

_INITDB_SECONDS = 60.0

# For a queue on a small machine: many small commits, rows that die young, partitions, several pools.
_CONFIGURATION = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 64MB
huge_pages = off
jit = off
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = replica
max_wal_senders = 2
max_wal_size = 1GB
min_wal_size = 128MB
checkpoint_timeout = 15min
max_locks_per_transaction = 256
max_worker_processes = 4
max_parallel_workers_per_gather = 0
autovacuum_naptime = 10s
autovacuum_max_workers = 2
autovacuum_vacuum_scale_factor = 0.05
autovacuum_vacuum_cost_delay = 1ms
autovacuum_vacuum_insert_scale_factor = 0.2
random_page_cost = 1.1
deadlock_timeout = 1s
tcp_keepalives_idle = 30
tcp_keepalives_interval = 5
tcp_keepalives_count = 3
client_connection_check_interval = 1s
timezone = 'UTC'
log_timezone = 'UTC'
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] %q%u@%d '
log_min_messages = warning
log_checkpoints = off
"""


@dataclass(frozen=True)
class Credentials:
    """The generated passwords; they never appear in a repr."""

    superuser: str
    owner: str

    def __repr__(self) -> str:
        return "Credentials(...)"


def credentials(folders: Folders) -> Credentials:
    """The passwords of this data folder, generated for a new one; the file is for its owner alone (mode 600).

    Raises:
        EmbeddedPostgresError: there is a data folder and its passwords are lost.
    """
    path = folders.credentials
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Credentials(stored["superuser"], stored["owner"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        if folders.data.exists():
            raise EmbeddedPostgresError(
                f"{path} is missing or damaged, and without its passwords {folders.data} is of no use:"
                " remove the local stack's data (make clean) and start again"
            ) from None
    made = Credentials(secrets.token_urlsafe(24), secrets.token_urlsafe(24))
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"superuser": made.superuser, "owner": made.owner}, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    return made


def check_version(data: Path, version: int) -> None:
    """Refuse a data folder that another major version made.

    Raises:
        OtherVersionError: with what to do instead.
    """
    mark = data / "PG_VERSION"
    found = mark.read_text(encoding="utf-8").strip() if mark.exists() else None
    if data.exists() and found != str(version):
        was = f"PostgreSQL {found}" if found else "something that is not PostgreSQL"
        other = "set POSTGRES_VERSION=" + found + ", " if found in ("16", "18") else ""
        raise OtherVersionError(
            f"the data folder {data} was made by {was}, not PostgreSQL {version}:"
            f" {other}give another SKETCHY_HOME, or remove the local stack's data (make clean)"
        )


def create(
    folders: Folders, binaries: Path, version: int, superuser_password: str, account: Account | None
) -> None:
    """Run initdb; the data folder gets its name only when it is complete.

    Raises:
        EmbeddedPostgresError: initdb failed; the message holds its last line.
    """
    unfinished = folders.data.with_name("data.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    password_file = folders.open / "password.unfinished"
    password_file.unlink(missing_ok=True)
    with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(superuser_password)
    if account is not None:
        os.chown(unfinished, account.uid, account.gid)
        os.chown(password_file, account.uid, account.gid)
    locale = ["--locale=C"]
    if version >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    log = folders.open / "initdb.log"
    log.unlink(missing_ok=True)
    try:
        process = processes.start(
            [
                binaries / "initdb",
                *("-D", str(unfinished), "-U", SUPERUSER, "-E", "UTF8", *locale),
                *("-A", "scram-sha-256", f"--pwfile={password_file}", "--no-instructions"),
            ],
            env=environment(),
            log=log,
            cwd=folders.open,
            account=account,
        )
        if processes.stop_after(process, _INITDB_SECONDS) != 0:
            raise EmbeddedPostgresError(f"initdb failed: {last_line(log)} (all of it in {log})")
    finally:
        password_file.unlink(missing_ok=True)
    unfinished.rename(folders.data)


def configure(data: Path) -> None:
    """Write our configuration; it takes effect when the server starts."""
    (data / "postgresql.conf").write_text(_CONFIGURATION, encoding="utf-8")


def environment() -> dict[str, str]:
    """What the programs of Postgres see: nothing of ours, no PG* variable, no locale."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def last_line(log: Path) -> str:
    """The last line with text in it, for an error message."""
    lines = (
        [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
        if log.exists()
        else []
    )
    return next((line for line in reversed(lines) if line), "no output")
