"""sketchy rollout: bring a flag to its players step by step, watched and measured, and back."""

from __future__ import annotations

import getpass
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from psycopg import Connection
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.cli.rollout_screen import history as history_table
from sketchy_orchestration.cli.rollout_screen import screen
from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.delivery import rollout_plans
from sketchy_orchestration.delivery.rollout_controller import try_walk
from sketchy_orchestration.domain.rollout import Action
from sketchy_orchestration.domain.rollout_commands import To, Wish
from sketchy_orchestration.domain.rollout_plan import ENROLMENT, Plan

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the change.")]
By = Annotated[str | None, typer.Option("--by", help="Who you are, where that is not your account's name.")]
Flag = Annotated[str, typer.Option("--flag", help="The flag that is rolled out.")]
At = Annotated[
    int | None,
    typer.Option(
        "--step", min=0, help="Refuse unless it stands at this step: safe to repeat. 0 is the first."
    ),
]
Anyway = Annotated[bool, typer.Option("--override-freeze", help="Although the plan is frozen now.")]
PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", exists=True, dir_okay=False, help="The plan, as YAML. Default: 0, 25, 50, 100 %."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


def _connection() -> Connection[Row]:
    return connect(joined_settings(), Role.operator, application_name="sketchy rollout")


def _plan(file: Path | None) -> Plan:
    return rollout_plans.plan_of(file.read_text(encoding="utf-8") if file else "")


def _tell(flag: str, wish: Wish, by: str | None, reason: str, step: int | None) -> None:
    with _connection() as connection:
        done = rollouts.tell(
            connection,
            joined_settings(),
            flag,
            wish,
            by=by or getpass.getuser(),
            reason=reason,
            step=step,
        )
    typer.echo(f"rollout {done.rollout.id} is {done.rollout.state}: {done.said}")


@app.command()
def start(
    reason: Reason,
    plan: PlanFile = None,
    release: Annotated[
        str | None, typer.Option("--release", help="The version that is rolled out; kept.")
    ] = None,
    by: By = None,
    override_freeze: Anyway = False,
) -> None:
    """Start a rollout; the controller walks it from there.

    \b
    Examples:
      sketchy rollout start --reason "version 1.2 is validated"
      sketchy rollout plan --yaml > plan.yaml   # change it, then:
      sketchy rollout start --plan plan.yaml --reason "slower than usual"
    """
    with _connection() as connection:
        begun = rollouts.start(
            connection,
            joined_settings(),
            _plan(plan),
            by=by or getpass.getuser(),
            reason=reason,
            release=release,
            override_freeze=override_freeze,
        )
    typer.echo(f"rollout {begun.id} of {begun.flag} has begun at {begun.percentage:g} %")


@app.command()
def pause(reason: Reason, flag: Flag = ENROLMENT, by: By = None, step: At = None) -> None:
    """Stop the step's clock. What fails is rolled back all the same."""
    _tell(flag, Wish(Action.pause), by, reason, step)


@app.command()
def resume(
    reason: Reason, flag: Flag = ENROLMENT, by: By = None, step: At = None, override_freeze: Anyway = False
) -> None:
    """Go on where it was paused."""
    _tell(flag, Wish(Action.resume, override_freeze=override_freeze), by, reason, step)


@app.command()
def promote(
    reason: Reason,
    flag: Flag = ENROLMENT,
    by: By = None,
    step: At = None,
    full: Annotated[bool, typer.Option("--full", help="To the last step at once.")] = False,
    override_freeze: Anyway = False,
) -> None:
    """Take the next step now, unless a look taken now fails. You vouch for what is inconclusive."""
    _tell(flag, Wish(Action.promote, full=full, override_freeze=override_freeze), by, reason, step)


@app.command()
def skip(
    reason: Reason, flag: Flag = ENROLMENT, by: By = None, step: At = None, override_freeze: Anyway = False
) -> None:
    """Take the next step now, whatever is measured."""
    _tell(flag, Wish(Action.skip, override_freeze=override_freeze), by, reason, step)


@app.command()
def abort(
    reason: Reason,
    flag: Flag = ENROLMENT,
    by: By = None,
    step: At = None,
    to: Annotated[To, typer.Option("--to", help="Where the flag is left.")] = To.zero,
) -> None:
    """End it; games in play stay with whoever has them."""
    _tell(flag, Wish(Action.abort, to=to), by, reason, step)


@app.command()
def retry(
    reason: Reason,
    flag: Flag = ENROLMENT,
    by: By = None,
    step: At = None,
    from_step: Annotated[
        bool, typer.Option("--from-step", help="From the step it left, not from the first.")
    ] = False,
    override_freeze: Anyway = False,
) -> None:
    """Begin one that was aborted or rolled back again, with the same plan."""
    wish = Wish(Action.retry, from_step=from_step, override_freeze=override_freeze)
    _tell(flag, wish, by, reason, step)


@app.command()
def undo(reason: Reason, flag: Flag = ENROLMENT, by: By = None, step: At = None) -> None:
    """Set the flag back to what it was before the rollout, even after it has completed."""
    _tell(flag, Wish(Action.undo), by, reason, step)


@app.command()
def status(flag: Flag = ENROLMENT, as_json: Json = False) -> None:
    """Where the newest rollout stands, and what was measured last."""
    with _connection() as connection:
        rollout = rollouts.newest(connection, flag)
        if as_json:
            found = {
                **{name: value for name, value in asdict(rollout).items() if name != "plan"},
                "plan": rollout.plan.model_dump(mode="json"),
                "verdicts": [asdict(each) for each in table.verdicts(connection, rollout.id)],
            }
            typer.echo(json.dumps(found, indent=2, default=str))
        else:
            Console().print(screen(connection, rollout))


@app.command()
def watch(
    flag: Flag = ENROLMENT,
    seconds: float = typer.Option(1.0, "--every", min=0.2, max=60, help="Seconds between two looks at it."),
) -> None:
    """A live view, until it ends or Ctrl-C."""
    with _connection() as connection, Live(refresh_per_second=4) as live:
        while True:
            rollout = rollouts.newest(connection, flag)
            live.update(screen(connection, rollout))
            if not rollout.active:
                return
            time.sleep(seconds)


@app.command()
def history(
    flag: Flag = ENROLMENT,
    limit: int = typer.Option(50, min=1, max=1000, help="Most changes to show."),
    as_json: Json = False,
) -> None:
    """Every change of the newest rollout: when, who, what, why; newest first."""
    with _connection() as connection:
        changes = table.changes(connection, rollouts.newest(connection, flag).id, limit)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in changes], indent=2, default=str))
    else:
        Console().print(history_table(changes))


@app.command("plan")
def show_plan(
    plan: PlanFile = None,
    as_yaml: bool = typer.Option(False, "--yaml", help="As a file to change and start with."),
) -> None:
    """Show a plan, and whether it makes sense; without --plan the default one. Needs no database."""
    found = _plan(plan)
    if as_yaml:
        typer.echo(rollout_plans.as_yaml(found), nl=False)
    else:
        Console().print(Markdown(rollout_plans.markdown(found)))


@app.command()
def control(
    seconds: float = typer.Option(5.0, "--every", min=0.05, max=60, help="Seconds between two ticks."),
) -> None:
    """Walk rollouts without Dagster, until Ctrl-C. Beside Dagster's sensor one of the two does it."""
    settings = joined_settings()
    last = ""
    while True:
        _, said = try_walk(settings)
        if said != last:
            typer.echo(f"{time.strftime('%H:%M:%S')}  {said}")
            last = said
        time.sleep(seconds)
