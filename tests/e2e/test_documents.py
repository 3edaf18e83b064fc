"""README and tutorial, line by line, in a folder that has nothing but the checkout's files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres.folders import delete
from tests.e2e.checkout import copy_of_the_checkout
from tests.e2e.stack_runner import ROOT, clean_environment
from tests.unit.cli.test_every_command import LEAVES

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("dagster"), pytest.mark.timeout(420)]

_BLOCK = re.compile(r"^```(?:sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_BASH, _MAKE = (shutil.which(name) or name for name in ("bash", "make"))
# Of README: what looks, plays, or finds all as it should be. What changes a system has tests of its own.
_RUN = re.compile(
    r"sketchy (status|timers|flags list|health|releases|play|alerts list|dead-letters|settings|migrate up)\b"
)


def blocks(name: str) -> list[str]:
    return _BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))


def commands(block: str) -> Iterator[str]:
    for line in block.splitlines():
        command = line.partition("  #")[0].strip()
        if command:
            yield command


def exists(command: str) -> None:
    """The words before the first argument are a command of ours, and so are the options."""
    words = command.split()
    path, known = "sketchy", [*LEAVES, *(leaf.rpartition(" ")[0] for leaf in LEAVES)]
    for word in words[1:]:
        if f"{path} {word}" not in known:
            break
        path = f"{path} {word}"
    assert path != "sketchy", command
    if path in LEAVES:
        options = {option for parameter in LEAVES[path].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, command


class Folder:
    """A copy of the checkout with an environment that is installed already."""

    def __init__(self, place: Path) -> None:
        self.place = place
        copy_of_the_checkout(place)
        own, real = place / ".venv", Path(sys.prefix)
        (own / "bin").mkdir(parents=True)
        shutil.copy(real / "pyvenv.cfg", own)
        (own / "lib").symlink_to(real / "lib")
        for program in (real / "bin").iterdir():
            if not program.name.startswith("activate"):
                (own / "bin" / program.name).symlink_to(program)
        activate = f'export PATH="{own}/bin:$PATH"\n'
        (own / "bin" / "activate").write_text(activate, encoding="utf-8")
        (own / ".installed").touch()
        self.environment = clean_environment(place / ".sketchy", PYTHONPATH=str(place))
        del self.environment["SKETCHY_HOME"]

    def run(self, script: str, *, seconds: float = 120) -> str:
        """One block of shell, as somebody who activated the environment types it."""
        done = subprocess.run(
            [_BASH, "-euo", "pipefail", "-c", f". .venv/bin/activate\n{script}"],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    place = tmp_path / "checkout"
    place.mkdir()
    yield Folder(place)
    delete(place / ".sketchy")


def test_readme_and_tutorial_do_what_they_say(folder: Folder) -> None:
    first, *middle, last = blocks("docs/tutorial.md")
    assert first.split() == ["make", "up"] == blocks("README.md")[0].split()[:2]
    assert last.split() == ["sketchy", "down"]
    log = folder.place / "up.log"
    with log.open("wb") as output:
        up = subprocess.Popen(
            [_MAKE, "up"],
            cwd=folder.place,
            env=folder.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        said = log.read_text
        processes.wait_until(
            lambda: "Dagster: http" in said() or up.poll() is not None, seconds=150, pause=0.2
        )
        assert "Dagster: http" in said(), said()
        for block in middle:
            folder.run(block)
        of_readme = set(
            re.findall(r"`(sketchy [a-z][^`…]*)`", (ROOT / "README.md").read_text(encoding="utf-8"))
        )
        for block in blocks("README.md"):
            of_readme |= {command for command in commands(block) if command.startswith("sketchy")}
        assert sum(bool(_RUN.match(command)) for command in of_readme) > 4, of_readme
        for command in sorted(of_readme):
            exists(command)
            if _RUN.match(command):
                # A game takes a minute and a half as people play it.
                given = f"{command} --speed 5" if " play" in command else command
                folder.run(f'eval "$(sketchy env)"\n{given}' if "migrate" in command else given, seconds=200)
        folder.run(last)
        assert up.wait(60) == 0, said()
    finally:
        if up.poll() is None:
            folder.run("sketchy down --quiet")
            processes.stop_after(up, 60)
