"""sketchy rollout: bring a flag to its players step by step, watched and measured, and back."""

from __future__ import annotations

import getpass
import json
import time
from dataclasses import asdict
from pathlib import Path

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

_REASON = typer.Option(..., "--reason", help="Why; kept with the change.")
_BY = typer.Option(None, "--by", help="Who you are, where that is not your account's name.")
_FLAG = typer.Option(ENROLMENT, "--flag", help="The flag that is rolled out.")
_STEP = typer.Option(
    None, "--step", min=0, help="Refuse unless it stands at this step: safe to repeat. 0 is the first."
)
_FREEZE = typer.Option(False, "--override-freeze", help="Although the plan is frozen now.")
_TO = typer.Option(To.zero, "--to", help="Where the flag is left.")
_PLAN = typer.Option(
    None, "--plan", exists=True, dir_okay=False, help="The plan, as YAML. Default: 0, 25, 50, 100 %."
)


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
    reason: str = _REASON,
    plan: Path | None = _PLAN,
    release: str | None = typer.Option(None, "--release", help="The version that is rolled out; kept."),
    by: str | None = _BY,
    override_freeze: bool = _FREEZE,
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
def pause(reason: str = _REASON, flag: str = _FLAG, by: str | None = _BY, step: int | None = _STEP) -> None:
    """Stop the step's clock. What fails is rolled back all the same."""
    _tell(flag, Wish(Action.pause), by, reason, step)


@app.command()
def resume(
    reason: str = _REASON,
    flag: str = _FLAG,
    by: str | None = _BY,
    step: int | None = _STEP,
    override_freeze: bool = _FREEZE,
) -> None:
    """Go on where it was paused."""
    _tell(flag, Wish(Action.resume, override_freeze=override_freeze), by, reason, step)


@app.command()
def promote(
    reason: str = _REASON,
    flag: str = _FLAG,
    by: str | None = _BY,
    step: int | None = _STEP,
    full: bool = typer.Option(False, "--full", help="To the last step at once."),
    override_freeze: bool = _FREEZE,
) -> None:
    """Take the next step now, unless a look taken now fails. You vouch for what is inconclusive."""
    _tell(flag, Wish(Action.promote, full=full, override_freeze=override_freeze), by, reason, step)


@app.command()
def skip(
    reason: str = _REASON,
    flag: str = _FLAG,
    by: str | None = _BY,
    step: int | None = _STEP,
    override_freeze: bool = _FREEZE,
) -> None:
    """Take the next step now, whatever is measured."""
    _tell(flag, Wish(Action.skip, override_freeze=override_freeze), by, reason, step)


@app.command()
def abort(
    reason: str = _REASON,
    flag: str = _FLAG,
    by: str | None = _BY,
    step: int | None = _STEP,
    to: To = _TO,
) -> None:
    """End it; games in play stay with whoever has them."""
    _tell(flag, Wish(Action.abort, to=to), by, reason, step)


@app.command()
def retry(
    reason: str = _REASON,
    flag: str = _FLAG,
    by: str | None = _BY,
    step: int | None = _STEP,
    from_step: bool = typer.Option(False, "--from-step", help="From the step it left, not from the first."),
    override_freeze: bool = _FREEZE,
) -> None:
    """Begin one that was aborted or rolled back again, with the same plan."""
    wish = Wish(Action.retry, from_step=from_step, override_freeze=override_freeze)
    _tell(flag, wish, by, reason, step)


@app.command()
def undo(reason: str = _REASON, flag: str = _FLAG, by: str | None = _BY, step: int | None = _STEP) -> None:
    """Set the flag back to what it was before the rollout, even after it has completed."""
    _tell(flag, Wish(Action.undo), by, reason, step)


@app.command()
def status(
    flag: str = _FLAG, as_json: bool = typer.Option(False, "--json", help="Machine-readable.")
) -> None:
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
    flag: str = _FLAG,
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
    flag: str = _FLAG,
    limit: int = typer.Option(50, min=1, max=1000, help="Most changes to show."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable."),
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
    plan: Path | None = _PLAN,
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
