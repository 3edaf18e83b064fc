"""Rules for the tree that no other tool checks; `make lint` runs it.

Usage: python -m tests.check_tree
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

MAX_LINES = 400
MAX_PICTURE_BYTES = 150_000
_COUNTED = {".py", ".sql", ".sh"}
_VAGUE_NAMES = {"utils", "helpers", "manager", "common", "base"}
_FORBIDDEN = (
    (re.compile(r"https?://[^\s\"'`)]+\.(?:whl|tar\.gz|tgz|deb)\b"), "a download address"),
    (re.compile(r"(?:extra-)?index-url|\"resolved\":\s*\"https?:"), "the name of a package index"),
    (re.compile(r"(?<![\w.])/(?:work|home|Users|root)/[\w.-]+"), "a path of one machine"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
    (re.compile(r"\b(?:pub|sub|sec)-c-[0-9a-f]{8}-[0-9a-f]{4}-"), "a PubNub key"),
)
_THIS = Path(__file__).name


def files_of(root: Path) -> list[Path]:
    """What git tracks or would track in a checkout, as far as it is there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout
    return [path for name in listed.decode().split("\0") if name and (path := root / name).is_file()]


def problems_in(path: Path, root: Path) -> list[str]:
    """What is wrong with one file, a line each."""
    place = path.relative_to(root)
    found = []
    if path.suffix == ".py" and path.stem in _VAGUE_NAMES:
        found.append(f"{place}: a name that says nothing")
    if path.suffix == ".png" and place.is_relative_to("docs/images"):
        size = path.stat().st_size
        too_large = f"{place}: {size} bytes, {MAX_PICTURE_BYTES} are allowed"
        return [too_large] if size > MAX_PICTURE_BYTES else []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return [*found, f"{place}: not text"]
    lines = text.splitlines()
    if path.suffix in _COUNTED and len(lines) > MAX_LINES:
        found.append(f"{place}: {len(lines)} lines, {MAX_LINES} are allowed")
    if path.name != _THIS:
        for number, line in enumerate(lines, 1):
            found += [f"{place}:{number}: {what}" for pattern, what in _FORBIDDEN if pattern.search(line)]
    return found


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    found = [problem for path in files_of(root) for problem in problems_in(path, root)]
    sys.stderr.write("".join(f"{problem}\n" for problem in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
