"""What the peers run with: interpreters and packages in a folder of their own, renewed when lists change."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Tools:
    """What a peer's command begins with, and where the scripts of the JavaScript peers are."""

    python: str
    node: str
    scripts: Path


def prepare(folder: Path) -> Tools:
    """Install the peers into this folder, unless just these are there already.

    Raises:
        subprocess.CalledProcessError: an index of packages cannot be reached, or npm is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    requirements, package = PEERS / "requirements.txt", PEERS / "package.json"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    if _is_stale(folder / "venv" / "installed", requirements):
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
        subprocess.run([*command, str(requirements)], check=True)
        _note(folder / "venv" / "installed", requirements)
    for script in PEERS.iterdir():
        if script.suffix in (".mjs", ".json"):
            (folder / script.name).write_bytes(script.read_bytes())
    if _is_stale(folder / "node_modules" / ".installed", package):
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        subprocess.run(command, cwd=folder, check=True)
        _note(folder / "node_modules" / ".installed", package)
    return Tools(str(python), str(folder / "node_modules" / ".bin" / "node"), folder)


def _is_stale(stamp: Path, wanted: Path) -> bool:
    return not stamp.exists() or stamp.read_text() != hashlib.sha256(wanted.read_bytes()).hexdigest()


def _note(stamp: Path, wanted: Path) -> None:
    stamp.write_text(hashlib.sha256(wanted.read_bytes()).hexdigest())
