"""Named queries: what is read from a file, and what is said when a file or a name is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from sketchy_orchestration.database import queries, sql_files
from sketchy_orchestration.database.queries import UnknownQueryError, WrongQueryFileError, load


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_queries_are_named_by_file_and_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        "timer.sql",
        "-- About timers.\n\n-- name: due\nselect 1\n  from games;\n\n-- name: next\nselect 2\n",
    )
    write(tmp_path, "relay.sql", "-- name: due\nselect 3")
    assert load(tmp_path) == {
        "timer.due": "/* timer.due */ select 1\n  from games",
        "timer.next": "/* timer.next */ select 2",
        "relay.due": "/* relay.due */ select 3",
    }


def test_a_comment_does_not_reach_the_placeholders(tmp_path: Path) -> None:
    write(tmp_path, "timer.sql", "-- name: due\n-- at most 100 % of them\nselect %(n)s")
    assert load(tmp_path)["timer.due"] == "/* timer.due */ select %(n)s"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("select 1", "before the first"),
        ("-- name: due\nselect 1\n-- name: due\nselect 2", "twice"),
        ("-- name: Due-games\nselect 1", "no name"),
        ("-- name: due\n-- name: next\nselect 1", "no SQL under the name 'due'"),
    ],
)
def test_a_wrong_file_says_why(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(WrongQueryFileError, match=said):
        load(write(tmp_path, "timer.sql", text))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UnknownQueryError, match=r"no query 'migrations\.applyed'.*migrations\.applied"):
        queries.query("migrations.applyed")


def test_every_installed_query_can_be_read() -> None:
    assert "migrations.applied" in queries.names()
    assert all(queries.query(name) for name in queries.names())


def test_an_installed_wheel_has_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package" / "_sql" / "queries").mkdir(parents=True)
    monkeypatch.setattr(sql_files, "_PACKAGE", tmp_path / "package")
    assert sql_files.sql_folder("queries") == tmp_path / "package" / "_sql" / "queries"
    with pytest.raises(sql_files.SqlFilesMissingError, match="sql/app"):
        sql_files.sql_folder("app")
