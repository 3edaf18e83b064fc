"""A clean corner of its own: nothing in the stand-in knows what the messages are about, or who uses it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from sketchy_orchestration.local import pubnub

FOLDER = Path(pubnub.__file__).parent
_FOREIGN_WORDS = re.compile(r"\b(games?|players?|phases?|drawings?|votes?)\b", re.IGNORECASE)
_ALLOWED = ("sketchy_orchestration.local.pubnub", "sketchy_orchestration.errors")


def test_no_word_of_games() -> None:
    for file in FOLDER.glob("*.py"):
        assert _FOREIGN_WORDS.findall(file.read_text()) == [], file.name


def test_it_imports_nothing_of_the_system_but_the_root_of_errors() -> None:
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                ours = name.startswith("sketchy_orchestration")
                assert not ours or name.startswith(_ALLOWED), f"{file.name} imports {name}"


def test_files_stay_short() -> None:
    assert [file.name for file in FOLDER.glob("*.py") if len(file.read_text().splitlines()) >= 400] == []
