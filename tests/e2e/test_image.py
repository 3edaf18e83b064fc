"""The image of deploy/compose, really built: what is in it, who it runs as, and how its parts come and go.

Podman builds it and Debian's packages stand in for the official Python image, so that no registry is needed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.local.processes import Process
from tests.e2e.checkout import copy_of_the_checkout
from tests.e2e.debian import CERTIFICATES, index_of_this_machine, make_system, needed
from tests.e2e.test_production import AT_WORK, Server, installed
from tests.unit.deploy.test_compose import SERVICES

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1200)]

BASE = "of-debian"
IMAGE = "sketchy-orchestration:test"
PACKAGES = ("ca-certificates", "python3", "python3-venv", "python-is-python3")
# Podman's own limits are more than some machines let even root ask for.
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
SECRET = "swordfish-in-a-file-beside-the-checkout"


class Podman:
    """Podman with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.program = shutil.which("podman") or ""
        self._store = ["--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self._store += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        # crun refuses the hybrid cgroups that some machines have.
        self._store += ["--runtime", runtime] if (runtime := shutil.which("runc")) else []

    def command(self, *words: str | Path) -> list[str]:
        return [self.program, *self._store, *map(str, words)]

    def run(self, *words: str | Path, **more: Any) -> str:
        """One command to its end; its output."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False, **more)
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Podman with the image built from a checkout beside which secrets lie."""
    needed("podman", "mmdebstrap")
    # Podman refuses a folder with a path of more than 50 characters.
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    podman = Podman(folder)
    try:
        system = folder / "base.tar"
        make_system(system, *PACKAGES)
        podman.run("import", system, f"docker.io/library/python:{BASE}")
        system.unlink()
        context = folder / "checkout"
        copy_of_the_checkout(context)
        for name in (".env", "sketchy_orchestration/.env", "deploy/compose/sketchy.env", "key.pem"):
            (context / name).write_text(f"CRON_SECRET={SECRET}\n", encoding="utf-8")
        mounts = [f"{index_of_this_machine(folder)}:/etc/pip.conf:ro", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        words = ["--network", "host", "--format", "docker", "--build-arg", f"PYTHON={BASE}", "-t", IMAGE]
        words += [word for mount in mounts for word in ("-v", mount)]
        file = context / "deploy" / "compose" / "Dockerfile"
        environment = {**os.environ, "CRON_SECRET": SECRET}
        podman.run(
            "build", *words, "--ignorefile", f"{file}.dockerignore", "-f", file, context, env=environment
        )
        yield podman
    finally:
        with suppress(AssertionError):
            podman.run("rm", "--force", "--all")
        # The store's own folder is a mount point while podman uses it.
        subprocess.run(["umount", "--lazy", str(folder / "store" / "overlay")], check=False)  # noqa: S607
        shutil.rmtree(folder, ignore_errors=True)


def test_no_secret_is_in_any_layer(podman: Podman, tmp_path: Path) -> None:
    saved = tmp_path / "image.tar"
    podman.run("save", "--format", "docker-archive", "-o", saved, IMAGE)
    needle, rest = SECRET.encode(), b""
    with saved.open("rb") as file:
        while piece := file.read(1 << 24):
            assert needle not in rest + piece
            rest = piece[-len(needle) :]
    saved.unlink()


def test_it_is_an_ordinary_user_who_can_change_nothing_of_it(podman: Podman) -> None:
    (made,) = json.loads(podman.run("inspect", IMAGE))
    assert made["Config"]["User"] == "10001:10001"
    script = "id -u; id -g; find /opt /usr /etc -writable -not -type l | wc -l; sketchy settings list | wc -l"
    uid, gid, writable, settings = podman.run(
        "run", "--rm", "--network", "none", *LIMITS, IMAGE, "sh", "-c", script
    ).split()
    assert (uid, gid, writable) == ("10001", "10001", "0")
    assert int(settings) > 50


class Containers(Server):
    """The parts as compose.yaml says, on this machine's own network."""

    podman: Podman

    def start(self, unit: str, *more: str) -> Process:
        part = SERVICES[unit]
        words = ["run", "--rm", *LIMITS, "--name", self.name(unit), "--network", "host"]
        words += ["--env-file", str(self.folder / "sketchy.env")]
        for name, value in (part.get("environment") or {}).items():
            words += ["--env", f"{name}={value.replace('code-server', '127.0.0.1')}"]
        words += ["--init"] if part["init"] else []
        words += ["--read-only"] if part.get("read_only") else []
        words += [word for place in part.get("tmpfs", ()) for word in ("--tmpfs", place)]
        words += [word for name in part["cap_drop"] for word in ("--cap-drop", name)]
        words += [word for name in part["security_opt"] for word in ("--security-opt", name)]
        workspace = self.folder / "workspace.yaml"
        words += ["-v", f"{workspace}:/var/lib/sketchy/dagster/workspace.yaml:ro"]
        self.running[unit] = processes.start(
            self.podman.command(*words, IMAGE, *self.here(part["command"]), *more),
            env=dict(os.environ),
            log=self.folder / f"{unit}.log",
            cwd=self.folder,
        )
        return self.running[unit]

    def name(self, unit: str) -> str:
        return f"{unit}-{self.mark}"

    def here(self, command: list[str]) -> list[str]:
        """A command of compose.yaml with ports of the test's, for this machine only."""
        for port, own in self.ports.items():
            command = [re.sub(rf"\b{port}\b", own, word) for word in command]
        return [word.replace("0.0.0.0", "127.0.0.1") for word in command]  # noqa: S104

    def healthy(self, unit: str) -> bool:
        """What Compose asks the part."""
        (_, *question) = SERVICES[unit]["healthcheck"]["test"]
        asked = self.podman.command("exec", self.name(unit), *self.here(question))
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def write_files(self) -> None:
        super().write_files()
        lines = [f"{name}={value}" for name, value in self.environment().items()]
        (self.folder / "sketchy.env").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.folder / "workspace.yaml").chmod(0o644)


def test_the_parts_come_to_work_and_leave_in_order(
    podman: Podman, postgres: RunningPostgres, tmp_path: Path
) -> None:
    with installed(postgres, tmp_path, Containers) as server:
        server.podman = podman
        server.start("code-server")
        server.start("gateway")
        for part in ("code-server", "gateway"):
            server.wait(lambda part=part: server.healthy(part))
        server.start("daemon")
        server.wait(lambda: len(server.rows(AT_WORK)) == 4, seconds=150)
        # As Compose does it: who depends on another ends first.
        for part in ("daemon", "code-server", "gateway"):
            seconds = SERVICES[part]["stop_grace_period"].removesuffix("s")
            podman.run("stop", "--time", seconds, server.name(part))
            assert server.running[part].wait(30) == 0, server.logs()
        ends = server.rows("select end_reason, count(*) from orchestration.shifts group by 1")
        assert ends == [("stopped", 4)], server.logs()
