"""The rules for the tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.check_tree import MAX_LINES, problems_in


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("long.py", "x = 1\n" * (MAX_LINES + 1), f"{MAX_LINES + 1} lines"),
        ("utils.py", "", "a name that says nothing"),
        ("a.txt", "https://host.example/thing-1.0" + ".whl", "a download address"),
        ("a.md", "see /" + "home/somebody/thing", "a path of one machine"),
        ("a.py", "-----BEGIN " + "PRIVATE KEY-----", "a private key"),
        ("a.toml", "key = 'sub-c-" + "0123abcd-0123-", "a PubNub key"),
    ],
)
def test_what_is_not_allowed_is_named(tmp_path: Path, name: str, text: str, what: str) -> None:
    (tmp_path / name).write_text(text)
    assert any(what in problem for problem in problems_in(tmp_path / name, tmp_path))


def test_an_ordinary_file_is_fine(tmp_path: Path) -> None:
    (tmp_path / "games.py").write_text("x = 1\n" * MAX_LINES)
    assert problems_in(tmp_path / "games.py", tmp_path) == []
