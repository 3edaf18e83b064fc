"""The row of migration files, and the plans made of it and the bookkeeping."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from sketchy_orchestration.database.migration_files import MigrationFilesError, load_migrations
from sketchy_orchestration.database.migration_locks import Blocker, Patience
from sketchy_orchestration.database.migration_plan import (
    Applied,
    MigrationChangedError,
    UnknownTargetError,
    plan_down,
    plan_up,
    states,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def write(folder: Path, *names: str, text: str = "select 1;\n") -> Path:
    for name in names:
        (folder / name).write_bytes(text.encode())
    return folder


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for name in ("0001_one", "0002_two", "0003_three"):
        write(tmp_path, f"{name}.up.sql", f"{name}.down.sql", text=f"select '{name}';\n")
    return tmp_path


def rows(folder: Path, count: int) -> list[Applied]:
    return [
        Applied(m.number, m.name, m.checksum, NOON, "owner", "0.1.0") for m in load_migrations(folder)[:count]
    ]


def test_our_own_migrations_are_a_row_in_tens() -> None:
    numbers = [m.number for m in load_migrations()]
    assert numbers[0] == 1
    assert [n for before, n in pairwise(numbers) if n != before + 1 and n % 10] == []


def test_line_ends_do_not_change_the_checksum(tmp_path: Path) -> None:
    unix, windows = tmp_path / "unix", tmp_path / "windows"
    for folder, text in ((unix, "select 1;\nselect 2;\n"), (windows, "select 1;\r\nselect 2;\r\n")):
        folder.mkdir()
        write(folder, "0001_one.up.sql", "0001_one.down.sql", text=text)
    assert load_migrations(unix)[0].checksum == load_migrations(windows)[0].checksum


def test_a_directive_stands_in_the_header_only(tmp_path: Path) -> None:
    write(tmp_path, "0001_one.up.sql", text="-- One.\n-- no-lock-retry\nselect 1;\n")
    write(tmp_path, "0002_two.up.sql", text="-- Two.\nselect 1;\n-- no-lock-retry\n")
    write(tmp_path, "0001_one.down.sql", "0002_two.down.sql")
    assert [m.retries_locks for m in load_migrations(tmp_path)] == [False, True]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no migrations"),
        (["1_one.up.sql"], "is no migration"),
        (["0001_one.up.sql"], "needs an up and a down"),
        (["0001_one.up.sql", "0001_uno.down.sql"], "of the same name"),
        (["0001_one.up.sql", "0001_one.down.sql", "0001_two.up.sql"], "two migrations have the number 0001"),
        (["0002_two.up.sql", "0002_two.down.sql"], "0001 is missing before 0002"),
    ],
)
def test_a_wrong_row_says_why(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(MigrationFilesError, match=said):
        load_migrations(write(tmp_path, *names))


def test_an_unknown_directive_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "0001_one.up.sql", "0001_one.down.sql", text="-- no-transaction\n")
    with pytest.raises(MigrationFilesError, match="unknown directive no-transaction"):
        load_migrations(tmp_path)


def test_plans_go_exactly_as_far_as_told(three: Path) -> None:
    files = load_migrations(three)
    assert [m.number for m in plan_up(files, [], None)] == [1, 2, 3]
    assert [m.number for m in plan_up(files, rows(three, 1), 2)] == [2]
    assert plan_up(files, rows(three, 3), None) == []
    assert [m.number for m in plan_down(files, rows(three, 3), 1)] == [3, 2]
    assert plan_down(files, [], 0) == []


def test_a_target_in_the_other_direction_is_refused(three: Path) -> None:
    files = load_migrations(three)
    with pytest.raises(UnknownTargetError, match="choose 2 to 3"):
        plan_up(files, rows(three, 2), 1)
    with pytest.raises(UnknownTargetError, match="choose 2 to 3"):
        plan_up(files, rows(three, 2), 9)
    with pytest.raises(UnknownTargetError, match="choose 0 to 2"):
        plan_down(files, rows(three, 2), 3)


def test_a_changed_file_stops_both_ways(three: Path) -> None:
    before = rows(three, 2)
    write(three, "0001_one.up.sql", text="select 'something else';\n")
    files = load_migrations(three)
    for plan in (lambda: plan_up(files, before, None), lambda: plan_down(files, before, 0)):
        with pytest.raises(MigrationChangedError, match=r"0001_one was changed .* new migration"):
            plan()
    assert [s.state for s in states(files, before)] == ["changed", "applied", "pending"]


def test_a_newer_version_s_migrations_stay(three: Path) -> None:
    newer = Applied(4, "four", "abc", NOON, "owner", "0.2.0")
    files = load_migrations(three)
    assert plan_up(files, [*rows(three, 3), newer], None) == []
    assert states(files, [*rows(three, 3), newer])[-1].state == "unknown"
    with pytest.raises(MigrationChangedError, match=r"0004_four was applied by version 0\.2\.0"):
        plan_down(files, [*rows(three, 3), newer], 2)


def test_a_number_below_what_is_applied_is_refused(three: Path) -> None:
    later = [row for row in rows(three, 3) if row.number != 2]
    with pytest.raises(MigrationChangedError, match="0002_two is not applied, but 0003 after it is"):
        plan_up(load_migrations(three), later, None)


def test_patience_pauses_longer_each_time_and_ends() -> None:
    now = 0.0
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    patience = Patience(30.0, sleep, lambda: now)
    while patience.again():
        pass
    assert 27.0 <= now <= 30.0
    assert 0.05 <= pauses[0] <= 0.15
    assert max(pauses) <= 3.0


def test_a_blocker_says_what_it_may_know() -> None:
    hidden = Blocker(7, "report", "reader", None, None, None, None)
    assert str(hidden) == "pid 7, application 'report', user reader, state hidden (needs pg_read_all_stats)"
    seen = Blocker(7, "report", "reader", "idle in transaction", 61.04, 60.0, "select\n  1")
    assert str(seen).endswith(
        "idle in transaction, in its transaction for 61.0 s, last query 60.0 s ago: select 1"
    )
