"""sketchy gateway: serve the HTTP functions, print their document, switch the application's row security."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from sketchy_orchestration.settings import settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_row_security = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(
    _row_security,
    name="row-security",
    help="Row level security on the application's games and game_participants (off unless switched on).",
)


@app.callback(invoke_without_command=True)
def gateway(
    context: typer.Context,
    host: str | None = typer.Option(None, help="Address to listen on (default: GATEWAY_HOST)."),
    port: int | None = typer.Option(
        None, min=0, max=65535, help="Port (default: GATEWAY_PORT); 0 any free one."
    ),
) -> None:
    """Serve the HTTP functions until SIGTERM; requests at work are finished first.

    Example: SUPABASE_SERVICE_ROLE_KEY=... CRON_SECRET=... SUPABASE_JWT_SECRET=... sketchy gateway --port 8787
    """
    if context.invoked_subcommand is not None:
        return
    from sketchy_orchestration.gateway.serve import serve, set_up_logs

    given = {"gateway_host": host, "gateway_port": port}
    used = settings().model_copy(update={name: value for name, value in given.items() if value is not None})
    set_up_logs(used)
    serve(used)


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from sketchy_orchestration.gateway.app import document, plain_app

    typer.echo(json.dumps(document(plain_app()), indent=2))


@app.command()
def types(
    folder: str = typer.Argument("clients/javascript", help="Where the files go."),
    check: bool = typer.Option(
        False, "--check", help="Change nothing; exit code 1 when a file is not up to date."
    ),
) -> None:
    """Write the JSON Schema and the TypeScript types of every event."""
    from sketchy_orchestration.gateway.client_types import write

    for file in write(Path(folder), check=check):
        typer.echo(f"wrote {file}")


@_row_security.command()
def on() -> None:
    """Switch it on: players see open lobbies and the games they are or were in."""
    _switch(True)


@_row_security.command()
def off() -> None:
    """Switch it off again, exactly as it was before."""
    _switch(False)


@_row_security.command()
def status() -> None:
    """Say whether it is on."""
    from sketchy_orchestration.database import row_security
    from sketchy_orchestration.database.connect import Role, connect

    with connect(settings(), Role.owner) as connection:
        for table, enabled, ours in row_security.status(connection):
            typer.echo(f"{table}: {'on' if enabled else 'off'}{' (switched on here)' if ours else ''}")


def _switch(wanted: bool) -> None:
    from sketchy_orchestration.database import row_security
    from sketchy_orchestration.database.connect import Role, connect

    with connect(settings(), Role.owner) as connection:
        changed = row_security.switch(connection, wanted)
    typer.echo(f"row level security is {'on' if wanted else 'off'}{'' if changed else ' already'}")
