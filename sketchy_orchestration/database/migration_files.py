"""The files of sql/migrations: NNNN_name.up.sql with its exact way back NNNN_name.down.sql."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from sketchy_orchestration.database.sql_files import sql_folder
from sketchy_orchestration.errors import SketchyError

_FILE = re.compile(r"^(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.(?P<way>up|down)\.sql$")
_DIRECTIVE = re.compile(r"^--\s*(?P<word>no-[a-z-]+)\s*$")

NO_LOCK_RETRY = "no-lock-retry"
_DIRECTIVES = frozenset({NO_LOCK_RETRY})


class MigrationFilesError(SketchyError):
    """The migrations folder is not a gapless row of up and down files."""


@dataclass(frozen=True)
class Migration:
    """One numbered step and its way back.

    Attributes:
        checksum: SHA-256 of the up file, the same for either kind of line ends.
        directives: words of the header comment, one on a line: `-- no-lock-retry` gives up at the first
            lock that is not free instead of trying again.
    """

    number: int
    name: str
    up: str
    down: str
    checksum: str
    directives: frozenset[str]

    def __str__(self) -> str:
        return f"{self.number:04d}_{self.name}"

    @property
    def retries_locks(self) -> bool:
        return NO_LOCK_RETRY not in self.directives


def load_migrations(folder: Path | None = None) -> list[Migration]:
    """Every migration in `folder` (default: the package's own), by number.

    Raises:
        MigrationFilesError: a file that is no migration, a gap, a number twice, a way back missing.
    """
    folder = folder or sql_folder("migrations")
    ways: dict[int, dict[str, tuple[str, Path]]] = {}
    for file in sorted(folder.glob("*.sql")):
        match = _FILE.match(file.name)
        if match is None:
            raise MigrationFilesError(f"{file.name} is no migration: name it NNNN_name.up.sql or .down.sql")
        there = ways.setdefault(int(match["number"]), {})
        if match["way"] in there:
            raise MigrationFilesError(
                f"two migrations have the number {match['number']}: renumber {file.name}"
            )
        there[match["way"]] = (match["name"], file)
    if not ways:
        raise MigrationFilesError(f"no migrations in {folder}")
    found = []
    expected = 1
    for number, there in sorted(ways.items()):
        # A subject may begin at a ten, so that two can grow side by side; within it nothing is missing.
        if number != expected and (expected == 1 or number % 10):
            raise MigrationFilesError(f"migration {expected:04d} is missing before {number:04d}")
        expected = number + 1
        if len(there) < 2 or there["up"][0] != there["down"][0]:
            raise MigrationFilesError(f"migration {number:04d} needs an up and a down file of the same name")
        found.append(_read(number, *there["up"], there["down"][1]))
    return found


def _read(number: int, name: str, up_file: Path, down_file: Path) -> Migration:
    up, down = (file.read_bytes().replace(b"\r\n", b"\n").decode() for file in (up_file, down_file))
    directives = _directives(up)
    if unknown := directives - _DIRECTIVES:
        known = ", ".join(sorted(_DIRECTIVES))
        raise MigrationFilesError(
            f"{up_file.name}: unknown directive {', '.join(sorted(unknown))}; there is {known}"
        )
    return Migration(number, name, up, down, hashlib.sha256(up.encode()).hexdigest(), directives)


def _directives(text: str) -> frozenset[str]:
    words = set()
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _DIRECTIVE.match(line):
            words.add(match["word"])
    return frozenset(words)
