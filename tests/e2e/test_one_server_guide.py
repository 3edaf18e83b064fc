"""docs/how-to/one-server.md, typed block by block as root of a Debian with systemd; and a reboot.

The Debian is a container of its own. Only the first step, which installs programs, has a network.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.processes import Process
from tests.e2e.checkout import copy_of_the_checkout
from tests.e2e.debian import CERTIFICATES, index_of_this_machine, make_system, needed
from tests.e2e.stack_runner import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1200)]

# What the guide takes for granted: systemd, a Postgres, what every server has.
PACKAGES = ("systemd", "systemd-sysv", "dbus", "ca-certificates", "curl", "openssl", "postgresql", "python3")
OWNER = "postgresql://owner:secret@127.0.0.1:5432/game"
# What the reader knows and the guide cannot: names, passwords, where PubNub is.
_READER = (
    ("postgresql://owner:password@db.example.com:5432/postgres", OWNER),
    ("editor /etc/sketchy/sketchy.env", "bash /srv/fill-in"),
    ("htpasswd -B -c /etc/nginx/sketchy/operators ada", "htpasswd -bBc /etc/nginx/sketchy/operators ada pw"),
    (
        "curl -fsS ",
        "curl -fsS --cacert /srv/checkout/fullchain.pem --resolve play.example.com:443:127.0.0.1 ",
    ),
)
_FILL_IN = r"""
set -eu
file=/etc/sketchy/sketchy.env
put() { sed -i -E "s|^#?$1=.*|$1=$2|" $file; }
sed -i 's|@db.example.com:5432/postgres|@127.0.0.1:5432/game|' $file
put PUBNUB_PUBLISH_KEY pub-c-local; put PUBNUB_SUBSCRIBE_KEY sub-c-local
put PUBNUB_ORIGIN 127.0.0.1:18090; put PUBNUB_SSL false
put SUPABASE_SERVICE_ROLE_KEY a-secret-of-this-test; put CRON_SECRET another-of-this-test
"""
_BEFORE = f"""
systemctl start postgresql
su postgres -c "psql -q -v ON_ERROR_STOP=1" <<'SQL'
create role owner login createrole password 'secret';
create database game owner owner;
\\c game
alter schema public owner to owner;
SQL
python -c "from sketchy_orchestration.local import application; application.install('{OWNER}')"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \\
  -subj /CN=play.example.com -addext subjectAltName=DNS:play.example.com \\
  -keyout privkey.pem -out fullchain.pem
cat > /etc/systemd/system/pubnub.service <<'UNIT'
[Service]
DynamicUser=yes
ExecStart=/opt/sketchy/current/bin/python -m sketchy_orchestration.local.pubnub --port 18090
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable --now pubnub
"""
_HEARTBEAT = "ended_at is null and heartbeat_at > clock_timestamp() - interval '3 s'"
_KINDS = f"select count(distinct kind) from orchestration.shifts where {_HEARTBEAT}"
_IN_DAGSTER = f"{_KINDS} and dagster_run_id is not null"
_DEAL = """
    select orchestration.set_flag('enrolment', 'test', 'test', null, 100);
    insert into games (prompt, status, created_at, started_at, current_phase_duration, phase_expires_at)
    values ('a cat', 'briefing', now(), now(), 20, clock_timestamp() + interval '2 s')
"""
_MOVED = "select count(*) from orchestration.transitions where cause = 'timer' and to_phase = 'drawing'"
_TOLD = (
    "select count(*) from orchestration.outcomes c join orchestration.outbox o on o.id = c.outbox_id"
    " where o.type = 'phase_changed' and c.outcome = 'delivered'"
)


def steps() -> dict[str, str]:
    """The guide's numbered steps: number and commands."""
    guide = (ROOT / "docs" / "how-to" / "one-server.md").read_text(encoding="utf-8")
    for theirs, ours in _READER:
        assert theirs in guide
        guide = guide.replace(theirs, ours)
    parts = re.split(r"^## ", guide, flags=re.MULTILINE)
    blocks = {part[0]: re.findall(r"^```\n(.*?)^```", part, re.MULTILINE | re.DOTALL) for part in parts}
    return {number: "".join(found) for number, found in blocks.items() if number.isdigit()}


class Machine:
    """A Debian in a container."""

    def __init__(self, folder: Path) -> None:
        self.root, self._log = folder / "machine", folder / "boot.log"
        program = shutil.which("systemd-nspawn") or ""
        self._nspawn = [program, "--quiet", "--register=no", "--keep-unit", f"--directory={self.root}"]
        self._booted: Process | None = None
        make_system(self.root, *PACKAGES)
        copy_of_the_checkout(self.root / "srv" / "checkout")
        (self.root / "srv" / "fill-in").write_text(_FILL_IN, encoding="utf-8")

    def install(self, script: str, index: Path) -> None:
        """Unbooted and with this machine's network."""
        given = [f"--bind-ro={CERTIFICATES}", f"--bind-ro={index}:/etc/pip.conf", "--resolv-conf=copy-host"]
        given += ["--setenv=DEBIAN_FRONTEND=noninteractive", "--chdir=/srv/checkout"]
        _done([*self._nspawn, *given, "bash", "-euxo", "pipefail", "-c", f"apt-get update -q\n{script}"])

    def boot(self) -> None:
        """With a network that ends at its own loopback."""
        words = [*self._nspawn, "--private-network", "--boot"]
        self._booted = processes.start(words, env=dict(os.environ), log=self._log)
        assert processes.wait_until(lambda: self._says("systemctl is-active basic.target"), seconds=60), (
            self._log.read_text(encoding="utf-8")
        )

    def reboot(self) -> None:
        assert self._booted is not None
        self.run("systemctl reboot")
        self._booted.wait(120)
        self.boot()

    def end(self) -> None:
        if self._booted is not None:
            # What asks the system of a container to power off.
            processes.stop(self._booted, (signal.SIGTERM, 90.0))

    def run(self, script: str) -> str:
        """What root types in the checkout; its output."""
        return _done(self._inside(script))

    def wait(self, query: str, answer: str, *, seconds: float = 180) -> None:
        """Until its Postgres answers that."""
        asked = f'test "$(psql -AtX {OWNER} -c "{query}")" = "{answer}"'
        assert processes.wait_until(lambda: self._says(asked), seconds=seconds, pause=0.5), (
            f"{query} is not {answer}: {self.run('journalctl --no-pager -b -n 60')}"
        )

    def _says(self, question: str) -> bool:
        return subprocess.run(self._inside(question), capture_output=True, check=False).returncode == 0

    def _inside(self, script: str) -> list[str]:
        assert self._booted is not None
        # nspawn's one child is the first process of the container.
        first = next((str(child.pid) for child in psutil.Process(self._booted.pid).children()), "0")
        path = "PATH=/opt/sketchy/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        shell = ["bash", "-euo", "pipefail", "-c", f"cd /srv/checkout\n{script}"]
        enter = [shutil.which("nsenter") or "", "--all", "--target", first]
        return [*enter, "env", "-i", path, "HOME=/root", "LANG=C.UTF-8", *shell]


def _done(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words[-1]}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    needed("systemd-nspawn", "mmdebstrap", "nsenter")
    one = Machine(tmp_path)
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(one.root, ignore_errors=True)


def test_a_stranger_installs_it_and_it_survives_a_reboot(machine: Machine, tmp_path: Path) -> None:
    said = steps()
    assert sorted(said) == ["1", "2", "3", "4", "5", "6"]
    machine.install(said["1"], index_of_this_machine(tmp_path))
    machine.boot()
    machine.run(_BEFORE)
    for number in ("2", "3", "4", "5"):
        machine.run(said[number])
    machine.wait(_KINDS, "2")
    machine.run(said["6"])
    deal = f'psql -qAtX {OWNER} -c "{_DEAL}"'
    machine.run(deal)
    machine.wait(_MOVED, "1")
    # Dagster's own take over from those that were there at once.
    machine.wait(_IN_DAGSTER, "2")

    machine.reboot()
    machine.wait(_KINDS, "2")
    machine.run(deal)
    machine.wait(_MOVED, "2")
    machine.wait(_TOLD, "2")
    machine.wait(_IN_DAGSTER, "2")
    assert machine.run("systemctl --failed --no-legend --no-pager").strip() == ""
