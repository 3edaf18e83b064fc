"""Where the files of sql/ are: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from sketchy_orchestration.errors import SketchyError

_PACKAGE = Path(__file__).resolve().parent.parent


class SqlFilesMissingError(SketchyError):
    """Neither a checkout nor a complete wheel."""


def sql_folder(subject: str) -> Path:
    """The folder `sql/<subject>`: migrations, queries or app.

    Raises:
        SqlFilesMissingError: the installation is not complete.
    """
    for root in (_PACKAGE / "_sql", _PACKAGE.parent / "sql"):
        if (root / subject).is_dir():
            return root / subject
    raise SqlFilesMissingError(
        f"no folder sql/{subject} beside or inside {_PACKAGE}: install the package again"
    )
