"""sketchy gateway: serve the HTTP functions, print their document, switch the application's row security."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import typer

from sketchy_orchestration.cli.joining import joined_or_own_settings
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Environment, settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_row_security = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(
    _row_security,
    name="row-security",
    help="Row level security on the application's games and game_participants (off unless switched on).",
)

_PLAYER = typer.Argument(help="The player's user id.")


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


class NoTokenError(SketchyError):
    """No player's token can be signed here."""


@app.command()
def token(
    user: UUID = _PLAYER,
    minutes: int = typer.Option(60, min=1, max=1440, help="How long it is valid."),
) -> None:
    """Sign a player's access token as Supabase would, to try things out; not in production.

    Example: curl -H "Authorization: Bearer $(sketchy gateway token $PLAYER_ID)" ...
    """
    from sketchy_orchestration.gateway import player_tokens
    from sketchy_orchestration.gateway.parts import issuer_of

    chosen = joined_or_own_settings()
    if chosen.environment is Environment.production:
        raise NoTokenError("ENVIRONMENT is production: players get their tokens from Supabase only")
    if chosen.supabase_jwt_secret is None:
        raise NoTokenError(
            "SUPABASE_JWT_SECRET is not set: set it, or start the local stack, which has one",
        )
    typer.echo(
        player_tokens.issue(
            chosen.supabase_jwt_secret.get_secret_value(),
            str(user),
            audience=chosen.supabase_jwt_audience,
            issuer=issuer_of(chosen),
            minutes=minutes,
        )
    )


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
def status(as_json: bool = typer.Option(False, "--json", help="Machine-readable, one array.")) -> None:
    """Say whether it is on."""
    from sketchy_orchestration.database import row_security
    from sketchy_orchestration.database.connect import Role, connect

    with connect(settings(), Role.owner) as connection:
        found = list(row_security.status(connection))
    if as_json:
        rows = [{"table": table, "on": enabled, "switched_on_here": ours} for table, enabled, ours in found]
        typer.echo(json.dumps(rows, indent=2))
        return
    for table, enabled, ours in found:
        typer.echo(f"{table}: {'on' if enabled else 'off'}{' (switched on here)' if ours else ''}")


def _switch(wanted: bool) -> None:
    from sketchy_orchestration.database import row_security
    from sketchy_orchestration.database.connect import Role, connect

    with connect(settings(), Role.owner) as connection:
        changed = row_security.switch(connection, wanted)
    typer.echo(f"row level security is {'on' if wanted else 'off'}{'' if changed else ' already'}")
