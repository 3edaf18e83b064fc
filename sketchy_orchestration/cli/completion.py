"""sketchy completion: what a shell needs to complete our commands and options."""

from __future__ import annotations

from enum import StrEnum

import typer


class Shell(StrEnum):
    """A shell that can complete our commands."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Shell = typer.Argument(help="For which shell."),  # noqa: B008  typer's way
) -> None:
    """Print a script that completes commands and options.

    \b
    Examples:
      sketchy completion bash > ~/.local/share/bash-completion/completions/sketchy
      sketchy completion zsh > "${fpath[1]}/_sketchy"
      sketchy completion fish > ~/.config/fish/completions/sketchy.fish
    """
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="sketchy", complete_var="_SKETCHY_COMPLETE", shell=shell.value)
    typer.echo(script)
