"""The `sketchy` command: assembles the groups, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from sketchy_orchestration.cli.examples import add_examples
from sketchy_orchestration.errors import SketchyError

# Command -> (module, what in it, one line of help). A module is imported only when its command is run: with
# the SDKs and Dagster behind them, importing all of them would make `sketchy --help` take seconds.
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("stack", "up", "Start the whole local system and play games through it."),
    "down": ("stack", "down", "Stop the local system."),
    "status": ("stack", "status", "One screen of truth about the running system."),
    "env": ("stack", "env", "Print how to join the running system, as shell assignments."),
    "migrate": ("migrate", "app", "Install our schema in a database, update it, take it out."),
    "timers": ("timers", "timers", "How exactly phases end, what is due next, what is set aside."),
    "games": ("games", "app", "What happened to a game, and what to do about it."),
    "dead-letters": ("dead_letters", "app", "Events given up: list, send again, discard."),
    "health": ("health", "health", "Is everything well, since when not, and what to do."),
    "alerts": ("alerts", "app", "What is wrong, who was told; test the channels; acknowledge."),
    "watchdog": ("watchdog", "watchdog", "Watch and alert without Dagster."),
    "probe": ("probe", "probe", "How long a message takes from here through PubNub and back."),
    "flags": ("flags", "app", "Switches, percentages and numbers that take effect within a second."),
    "stop": ("stop", "stop", "Emergency stop: everything stands still within a second; and its lifting."),
    "deploy": ("deploy", "deploy", "Bring a release into production; go on with it; take it back."),
    "validate": ("validate", "app", "Run the checklists; go or no go for this exact version."),
    "releases": ("releases", "releases", "What runs where, since when, which version each shift has."),
    "rollback": ("rollback", "app", "Switch a part off, or do what answers a known risk."),
    "rollout": ("rollout", "app", "Bring a flag to its players step by step, measured, and back."),
    "tune": ("tune", "tune", "Propose thresholds from the last days' measurements; changes nothing."),
    "play": ("play", "play", "Play games as the application does and check what is heard."),
    "pubnub": ("pubnub", "app", "The local PubNub."),
    "gateway": ("gateway", "app", "The HTTP functions."),
    "code-server": ("code_server", "code_server", "Serve the definitions to Dagster."),
    "settings": ("settings", "app", "What can be set, what is set here, and files to begin with."),
    "completion": ("completion", "completion", "What a shell needs to complete commands and options."),
    "shift": ("shift", "app", "Run a timer or fan-out shift without Dagster."),
}


class _Groups(TyperGroup):
    """Knows every command's name and help without importing it.

    The types are loose because typer keeps its own copy of click private.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the signature is given
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, short_help = _COMMANDS[cmd_name]
        found: Any = getattr(import_module(f"sketchy_orchestration.cli.{module}"), attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            single.command(cmd_name)(found)
            found = single
        command = get_command(found)
        command.name = cmd_name
        command.short_help = short_help
        add_examples(command, f"sketchy {cmd_name}")
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


app = typer.Typer(
    cls=_Groups,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def sketchy(
    debug: bool = typer.Option(False, "--debug", help="Show where an error came from."),
) -> None:
    """Phase timers, event fan-out and self-delivery for a drawing game."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process.

    Exit codes: 0 done, 1 an error (one line on stderr), 2 a usage error, 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if "_SKETCHY_COMPLETE" in os.environ:
        # typer's own shells instead of click's; only when a shell asks, for it costs an import.
        from typer._completion_classes import completion_init

        completion_init()
    # Wherever it stands in the line, and before anything else can fail.
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        app(words, prog_name="sketchy")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; do not let the interpreter complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except SketchyError as error:
        _fail(error.in_one_line(), debug)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        _fail(text if debug else f"{text} (unexpected; --debug shows where it came from)", debug)


def _fail(text: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"error: {text}\n")
    sys.exit(1)


if __name__ == "__main__":
    main()
