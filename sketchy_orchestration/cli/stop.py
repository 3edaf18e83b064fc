"""sketchy stop: the emergency stop and its lifting; needs the database and no Dagster."""

from __future__ import annotations

import getpass
import json

import typer

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database.rollback import RollbackError
from sketchy_orchestration.delivery import emergency
from sketchy_orchestration.delivery.steps import Step, Steps


def stop(
    emergency_: bool = typer.Option(
        False, "--emergency", help="Everything: no transition, no publish, within a second."
    ),
    lift: bool = typer.Option(False, "--lift", help="Take an emergency stop back."),
    reason: str = typer.Option(..., "--reason", help="Why; kept with the stop."),
    release: bool | None = typer.Option(
        None,
        "--release/--keep-games",
        help="Hand the games in play to the legacy handler, for good. Default: if LEGACY_HANDLER is set.",
        show_default=False,
    ),
    triggers_off: bool = typer.Option(
        False, "--triggers-off", help="Also let our triggers do nothing; their work is repaired afterwards."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done; change nothing."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable, one array of steps."),
) -> None:
    """Stop everything at once, or let it work again. Safe to repeat.

    \b
    Examples:
      sketchy stop --emergency --reason "wrong results, incident 42"
      sketchy stop --emergency --release --reason "..."
      sketchy stop --lift --reason "incident 42 is over"
    """
    if emergency_ == lift:
        raise RollbackError("say which: --emergency, or --lift to take one back")
    by = getpass.getuser()

    def tell(step: Step) -> None:
        if not as_json:
            mark = "" if step.ok else "FAILED: "
            typer.echo(f"{step.at_ms:8.0f} ms  {step.name:<34} {mark}{step.found}")

    settings = joined_settings()
    done: Steps
    if lift:
        done = emergency.lift_stop(settings, by=by, reason=reason, tell=tell)
    else:
        done = emergency.emergency_stop(
            settings,
            by=by,
            reason=reason,
            release=release,
            triggers_off=triggers_off,
            dry_run=dry_run,
            tell=tell,
        )
    if as_json:
        typer.echo(json.dumps([step.as_dict() for step in done.done], indent=2))
    if not done.ok:
        raise RollbackError("a step failed: see above, and run the command again")
