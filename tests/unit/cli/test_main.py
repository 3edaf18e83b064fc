"""The command line: what an error looks like, and what it costs to ask for help."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sketchy_orchestration.cli import main as command_line
from sketchy_orchestration.errors import SketchyError


def _run(monkeypatch: pytest.MonkeyPatch, error: BaseException, *words: str) -> int:
    def fails() -> None:
        raise error

    monkeypatch.setitem(command_line._COMMANDS, "env", ("stack", "env", "Fails."))
    monkeypatch.setattr("sketchy_orchestration.cli.stack.env", fails)
    with pytest.raises(SystemExit) as ended:
        command_line.main([*words, "env"])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_an_expected_error_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, SketchyError("no\n  database", hint="start one")) == 1
    assert capsys.readouterr().err == "error: no database (start one)\n"


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, ZeroDivisionError("division\nby zero")) == 1
    said = capsys.readouterr().err
    assert (
        said == "error: ZeroDivisionError: division by zero (unexpected; --debug shows where it came from)\n"
    )


def test_debug_shows_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, SketchyError("no database"), "--debug") == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("error: no database\n")


def test_an_interruption_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, KeyboardInterrupt()) == 130
    assert "Traceback" not in capsys.readouterr().err


SLOW = {"dagster", "pubnub", "aiohttp", "sqlalchemy", "rich", "structlog", "psutil"}


@pytest.mark.parametrize(
    ("words", "needless"),
    [(["--help"], SLOW | {"psycopg", "pydantic"}), (["stop", "--emergency", "--reason", "x"], SLOW)],
    ids=["help", "emergency stop"],
)
def test_a_command_imports_nothing_slow_that_it_does_not_need(words: list[str], needless: set[str]) -> None:
    """Of the second in which everything is to stand still, most is the command's start."""
    script = (
        "import sys\n"
        "from sketchy_orchestration.cli.main import main\n"
        f"try: main({words})\n"
        "except SystemExit: pass\n"
        f"sys.exit(', '.join({needless} & set(sys.modules)) or 0)"
    )
    away = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=away, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(command_line._COMMANDS))
def test_every_command_exists_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main([name, "--help"])
    assert ended.value.code == 0
    assert "Usage: sketchy" in capsys.readouterr().out
