"""deploy/compose: one non-root image without secrets, parts that are watched, an end in the right order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sketchy_orchestration import __version__
from sketchy_orchestration.cli.main import app
from sketchy_orchestration.settings import Settings

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "deploy" / "compose"
SECRETS = [
    name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
]


def composed(name: str = "compose.yaml") -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))
    return loaded


SERVICES: dict[str, dict[str, Any]] = composed()["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "proxy"}


def instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's, with continued lines joined."""
    text = (COMPOSE / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, " ".join(rest.split())


def test_the_image_is_made_in_two_stages_for_one_ordinary_user() -> None:
    said = list(instructions())
    stages = [rest for word, rest in said if word == "FROM"]
    assert len(stages) == 2
    assert dict(rest.split("=") for word, rest in said if word == "ARG")["PYTHON"] != "latest"
    assert [rest for word, rest in said if word == "USER"] == ["10001:10001"]
    assert said.index(("USER", "10001:10001")) > max(
        i for i, (word, _) in enumerate(said) if word in ("COPY", "RUN")
    )
    assert {word for word, _ in said} <= {
        *("ARG", "FROM", "ENV", "WORKDIR", "RUN", "COPY"),
        *("LABEL", "USER"),
        *("STOPSIGNAL", "CMD"),
    }
    ignored = (COMPOSE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    for word, rest in said:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert source.removeprefix("./") in let_in, source
    assert ignored[1] == "*"


def test_no_secret_is_in_the_image_or_in_compose() -> None:
    for name in ("Dockerfile", "compose.yaml", "read-only.yaml"):
        text = (COMPOSE / name).read_text(encoding="utf-8")
        for secret in SECRETS:
            # Handed through from the shell at most, and only to the migration.
            given = re.findall(rf"^\s*{secret}\s*[:=]\s*(.*)$", text, re.MULTILINE)
            assert set(given) <= {"${DATABASE_URL:-}"}, (name, secret)
    assert [name for name, service in OURS.items() if "DATABASE_URL" in service.get("environment", {})] == [
        "migrate"
    ]


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_part_may_do_little_and_has_time_to_end(name: str) -> None:
    part = OURS[name]
    assert part["cap_drop"] == ["ALL"]
    assert part["security_opt"] == ["no-new-privileges:true"]
    assert part["image"] == f"sketchy-orchestration:${{SKETCHY_VERSION:-{__version__}}}"
    assert "ports" not in part, "only the proxy is to be reached from elsewhere"
    assert part["init"] is True, "a program that is process 1 would get no default signals"
    assert name == "migrate" or "stop_grace_period" in part


def test_whoever_is_waited_for_says_when_it_serves() -> None:
    waited_for = {other for service in SERVICES.values() for other in service.get("depends_on", {})}
    assert waited_for == {"code-server", "gateway", "webserver"}
    for name in (*waited_for, "daemon", "proxy"):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD", name
    # Compose ends who depends before whom it depends on: without the daemon nothing replaces the shifts.
    assert "code-server" in SERVICES["daemon"]["depends_on"]


def test_files_that_are_mounted_exist() -> None:
    mounts = [volume.split(":")[0] for volume in SERVICES["proxy"]["volumes"]]
    assert {mount for mount in mounts if not (COMPOSE / mount).exists()} == {"./certificates"}
    inside, outside = (
        (ROOT / "deploy" / where / "upstreams.conf").read_text("utf-8") for where in ("compose", "nginx")
    )
    names = re.findall(r"^upstream (\w+)", inside, re.MULTILINE)
    assert names == re.findall(r"^upstream (\w+)", outside, re.MULTILINE)
    assert {server.split(":")[0] for server in re.findall(r"server ([\w:]+);", inside)} <= set(SERVICES)


def test_read_only_changes_the_command_alone() -> None:
    (changed,) = composed("read-only.yaml")["services"].items()
    assert changed[0] == "webserver"
    without = [word for word in changed[1]["command"] if word != "--read-only"]
    assert without == SERVICES["webserver"]["command"]


def commands() -> list[list[str]]:
    """Every `sketchy ...` that something in deploy/ runs."""
    from_compose = [
        words
        for service in SERVICES.values()
        for words in (service.get("command", []), service.get("healthcheck", {}).get("test", [])[1:])
    ]
    units = (ROOT / "deploy" / "systemd").glob("*.service")
    from_units = [
        shlex.split(line.partition("=")[2].replace("%i", "timer"))
        for unit in units
        for line in unit.read_text(encoding="utf-8").splitlines()
        if line.startswith("ExecStart=")
    ]
    return [words[1:] for words in (*from_compose, *from_units) if words and words[0].endswith("sketchy")]


def test_every_command_exists_with_its_options() -> None:
    import typer

    found = commands()
    assert len(found) > 8
    for words in found:
        command: Any = typer.main.get_command(app)
        rest = list(words)
        while hasattr(command, "get_command") and rest and not rest[0].startswith("-"):
            command, rest = command.get_command(None, rest[0]), rest[1:]
            assert command is not None, words
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known, words
