"""Named queries: SQL lives in sql/queries/<subject>.sql, each under a line `-- name: <name>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import LiteralString

from sketchy_orchestration.database.sql_files import sql_folder
from sketchy_orchestration.errors import SketchyError

_NAME = re.compile(r"^--\s*name:\s*(?P<name>\S+)\s*$")
_WORD = re.compile(r"^[a-z][a-z0-9_]*$")


class UnknownQueryError(SketchyError):
    """No query has this name; the message lists those that exist."""


class WrongQueryFileError(SketchyError):
    """A file of sql/queries cannot be read as named queries."""


def query(name: str) -> LiteralString:
    """The text of the query `<subject>.<name>`, ready for `execute`.

    The text begins with the name as a comment, so that pg_stat_activity and the server's log show it.

    Raises:
        UnknownQueryError: no such query.
    """
    known = _installed()
    try:
        return known[name]
    except KeyError:
        subject = name.partition(".")[0]
        near = [one for one in sorted(known) if one.startswith(f"{subject}.")] or sorted(known)
        raise UnknownQueryError(f"no query {name!r}; there are: {', '.join(near) or 'none'}") from None


def names() -> list[str]:
    """Every known `<subject>.<name>`."""
    return sorted(_installed())


@lru_cache(maxsize=1)
def _installed() -> Mapping[str, LiteralString]:
    return load(sql_folder("queries"))


def load(folder: Path) -> dict[str, LiteralString]:
    """Every query in the files of `folder`, by `<subject>.<name>`.

    Raises:
        WrongQueryFileError: SQL before the first name; a name that comes twice, is no word, or is empty.
    """
    found: dict[str, LiteralString] = {}
    for file in sorted(folder.glob("*.sql")):
        for name, text in _named_parts(file):
            full = f"{file.stem}.{name}"
            if full in found:
                raise WrongQueryFileError(f"{file.name}: the name {name!r} is there twice")
            found[full] = f"/* {full} */ {text}"
    return found


def _named_parts(file: Path) -> list[tuple[str, str]]:
    parts: list[tuple[str, list[str]]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = _NAME.match(line)
        if match:
            if not _WORD.match(match["name"]):
                raise WrongQueryFileError(f"{file.name}: {match['name']!r} is no name; use a-z, 0-9 and _")
            parts.append((match["name"], []))
        elif line.lstrip().startswith("--") or (not parts and not line.strip()):
            continue  # comments stay in the file: a % in one would be read as a placeholder
        elif not parts:
            raise WrongQueryFileError(f"{file.name}: SQL before the first `-- name:` line")
        else:
            parts[-1][1].append(line)
    texts = [(name, "\n".join(lines).strip().removesuffix(";").strip()) for name, lines in parts]
    for name, text in texts:
        if not text:
            raise WrongQueryFileError(f"{file.name}: no SQL under the name {name!r}")
    return texts
