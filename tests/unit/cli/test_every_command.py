"""One table for the whole command line: examples, --json where a program reads, options explained, verbs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sketchy_orchestration.cli.main import app

# Long-running, or their output is for a shell or a file and nothing else: no program reads them as JSON.
_NOT_READ = {
    *("sketchy up", "sketchy down", "sketchy env", "sketchy completion", "sketchy code-server"),
    *(
        "sketchy shift timer",
        "sketchy shift fanout",
        "sketchy watchdog",
        "sketchy gateway",
        "sketchy pubnub serve",
    ),
    *("sketchy settings file", "sketchy gateway openapi", "sketchy gateway types", "sketchy rollout watch"),
    # A run in steps: its end is its exit code, its record `sketchy releases`.
    "sketchy deploy",
}
_READING = {"list", "show", "status", "history", "verify"}


def leaves() -> Iterator[tuple[str, Any]]:
    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "list_commands"):
            for name in command.list_commands(None):
                yield from walk(command.get_command(None, name), f"{path} {name}")
        else:
            yield path, command

    yield from walk(typer.main.get_command(app), "sketchy")


LEAVES = dict(leaves())


@pytest.mark.parametrize("path", sorted(LEAVES))
def test_a_command_says_what_it_does_and_each_option_too(path: str) -> None:
    command = LEAVES[path]
    assert len(command.help or "") > 15, path
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{path} {parameter.name}"


@pytest.mark.parametrize("path", sorted(LEAVES))
def test_its_help_shows_an_example_where_there_is_something_to_choose(path: str) -> None:
    command = LEAVES[path]
    chosen = [parameter for parameter in command.params if parameter.name not in ("help", "as_json")]
    if chosen:
        assert re.search(
            rf"Examples?:\s.*{re.escape(path)}", f"{command.help}\n{command.epilog}", re.DOTALL
        ), f"{path}: give it an example, in its own text or in cli/examples.py"


@pytest.mark.parametrize("path", sorted(path for path in LEAVES if path not in _NOT_READ))
def test_a_program_can_read_what_it_says(path: str) -> None:
    options = {option for parameter in LEAVES[path].params for option in parameter.opts}
    reads = path.rpartition(" ")[2] in _READING or path.count(" ") == 1
    if reads:
        assert "--json" in options, path


def test_words_are_the_same_everywhere() -> None:
    for path, command in LEAVES.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert options.isdisjoint({"--output", "--format", "--force", "--dryrun", "--message"}), path
        for parameter in command.params:
            if parameter.name == "as_json":
                assert parameter.opts == ["--json"], path


def _run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")
    }
    return subprocess.run(
        [sys.executable, "-m", "sketchy_orchestration.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, **more},
    )


def test_exit_codes(tmp_path: Path) -> None:
    assert _run("settings", "list", TERM="xterm-256color").returncode == 0
    wrong = _run("settings", "list", LOG_LEVEL="loud")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert wrong.stderr.startswith("error: LOG_LEVEL is 'loud'")
    assert _run("settings", "lis").returncode == 2
    assert _run("status", SKETCHY_HOME=str(tmp_path)).returncode == 1


def test_no_colours_into_a_pipe() -> None:
    assert "\x1b[" not in _run("settings", "list", TERM="xterm-256color", COLORTERM="truecolor").stdout


def test_a_shell_is_told_commands_and_options() -> None:
    script = _run("completion", "bash").stdout
    assert "complete -o default -F _sketchy_completion sketchy" in script
    asked = {"_SKETCHY_COMPLETE": "complete_bash", "COMP_WORDS": "sketchy flags s", "COMP_CWORD": "2"}
    assert _run(**asked).stdout.split() == ["set"]
