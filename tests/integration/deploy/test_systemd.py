"""The units of deploy/systemd: systemd finds nothing wrong with them, and little harm they could do."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
MOST_EXPOSED = 15  # tenths of systemd's exposure level: "OK" ends at 50, and a unit without a line has 96
ANALYZE = shutil.which("systemd-analyze")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine's folders as the guide fills them, with programs that do nothing."""
    if ANALYZE is None:
        pytest.skip("systemd-analyze is not installed")
    root = tmp_path_factory.mktemp("root")
    own = root / "etc" / "systemd" / "system"
    own.mkdir(parents=True)
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.target")):
        shutil.copy(unit, own)
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    for absolute in ("/bin/sh", *(_command(name)[0] for name in SERVICES)):
        program = root / absolute.lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return root


def _command(unit: str) -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", (UNITS / unit).read_text(encoding="utf-8"), re.MULTILINE)
    return str(line).split()


def test_systemd_finds_nothing_to_say(root: Path) -> None:
    named = [name.replace("@", "@timer") for name in SERVICES]
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", f"--root={root}", *named, "sketchy.target"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "sketchy" in line]
    assert (done.returncode, said) == (0, []), done.stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_it_could_do_little_harm(root: Path, unit: str) -> None:
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", f"--root={root}", f"--threshold={MOST_EXPOSED}", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_part_is_wanted_and_stops_in_order() -> None:
    wanted = set(
        re.findall(r"sketchy-[\w@-]+\.service", (UNITS / "sketchy.target").read_text(encoding="utf-8"))
    )
    # Shifts without Dagster hold the games from the boot on, until Dagster's own relieve them.
    bridges = {"sketchy-bridge@timer.service", "sketchy-bridge@fanout.service"}
    assert wanted == {name for name in SERVICES if "@" not in name} | bridges
    # A Postgres on the same machine ends after whoever must still tell it something.
    assert {"postgresql.service" in _read(name)["Unit"]["After"] for name in SERVICES} == {True}
    daemon = _read("sketchy-daemon.service")
    # What starts after the code server stops before it, and nothing replaces the shifts that end then.
    assert "sketchy-code-server.service" in daemon["Unit"]["After"]
    assert daemon["Unit"]["Requires"] == "sketchy-code-server.service"
    # Shifts die with a code server that fails: others start at once, whatever Restart= makes of it.
    bridged = _read("sketchy-code-server.service")["Service"]["ExecStopPost"]
    assert {word.rstrip("'") for word in bridged.split() if "@" in word} == bridges
    # SIGTERM for the program alone: it ends what it started in its own order.
    assert {_read(name)["Service"]["KillMode"] for name in SERVICES} == {"mixed"}


def _read(unit: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parser.read(UNITS / unit, encoding="utf-8")
    return parser
