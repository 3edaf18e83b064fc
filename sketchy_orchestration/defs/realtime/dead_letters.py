"""Jobs for dead letters: have them sent again, or discard them. The same acts as `sketchy dead-letters`."""

import getpass
from datetime import UTC, datetime
from uuid import UUID

import dagster as dg
from pydantic import Field

from sketchy_orchestration.database import dead_letters
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.database.dead_letters import Act, Chosen
from sketchy_orchestration.defs.realtime.assets import OWNER_TAGS
from sketchy_orchestration.defs.resources import PostgresResource

_TAGS = {**OWNER_TAGS, "sketchy/role": "operator", "dagster/max_retries": "0"}


class DeadLetterConfig(dg.Config):
    """Which letters, and why. All filters that are given must fit."""

    reason: str = Field(min_length=1, description="Why you do it; kept with your name")
    by: str | None = Field(default=None, description="Who does it; unset: the account the run runs as")
    dry_run: bool = Field(default=True, description="Only say what would be done")
    event_ids: list[str] = Field(default=[], description="Events by id; empty: no such limit")
    game_id: str | None = Field(default=None, description="Only of this game")
    type: str | None = Field(default=None, description="Only of this event type")
    dead_reason: str | None = Field(
        default=None, description="Only dead of this: too_large, invalid, timeout ..."
    )
    dead_after: str | None = Field(default=None, description="Only dead since, as 2026-01-31T12:00 (UTC)")
    dead_before: str | None = Field(default=None, description="Only dead before, as 2026-01-31T12:00 (UTC)")
    game_over: bool = Field(default=False, description="Only of games that are over")
    limit: int = Field(default=1000, ge=1, le=dead_letters.MOST, description="Letters at most, oldest first")

    def chosen(self) -> Chosen:
        """What is meant, for the database."""
        return Chosen(
            [UUID(word) for word in self.event_ids] or None,
            UUID(self.game_id) if self.game_id else None,
            self.type,
            self.dead_reason,
            _moment(self.dead_after),
            _moment(self.dead_before),
            self.game_over,
        )


class ReplayConfig(DeadLetterConfig):
    """Config of dead_letter_replay."""

    wait_seconds: float = Field(default=30.0, ge=0, le=3600, description="Seconds to wait for the answers")


def _moment(word: str | None) -> datetime | None:
    if word is None:
        return None
    moment = datetime.fromisoformat(word)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _act(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    action: Act,
    config: DeadLetterConfig,
    wait: float,
) -> None:
    with connect(postgres.settings(), Role.operator, application_name="sketchy dead-letters") as connection:
        done = dead_letters.act(
            connection,
            action,
            config.chosen(),
            by=config.by or f"{getpass.getuser()}, run {context.run_id}",
            reason=config.reason,
            limit=config.limit,
            dry_run=config.dry_run,
        )
        ended = (
            dead_letters.wait_for_replays(connection, [each.event_id for each in done], wait)
            if wait
            else None
        )
    for each in done:
        context.log.info(
            f"{each.event_id} {each.type}: {'would be ' if config.dry_run else ''}{each.outcome}"
        )
    numbers: dict[str, dg.MetadataValue] = {
        "letters": dg.MetadataValue.int(len(done)),
        "dry_run": dg.MetadataValue.bool(config.dry_run),
    }
    if ended is not None:
        numbers |= {
            "accepted": dg.MetadataValue.int(ended.accepted),
            "refused": dg.MetadataValue.int(ended.refused),
            "waiting": dg.MetadataValue.int(ended.waiting),
        }
    context.add_output_metadata(numbers)
    if ended is not None and ended.refused:
        raise dg.Failure(f"{ended.refused} were refused again: `sketchy dead-letters show` says why")


@dg.op(tags={"sketchy/kind": "fanout"})
def replay_dead_letters(
    context: dg.OpExecutionContext, config: ReplayConfig, postgres: PostgresResource
) -> None:
    """Asks the fan-out shifts to send dead letters again and waits for the answers."""
    _act(context, postgres, Act.replay, config, 0.0 if config.dry_run else config.wait_seconds)


@dg.op(tags={"sketchy/kind": "fanout"})
def discard_dead_letters(
    context: dg.OpExecutionContext, config: DeadLetterConfig, postgres: PostgresResource
) -> None:
    """Discards dead letters; they stay on record until retention takes them."""
    _act(context, postgres, Act.discard, config, 0.0)


@dg.job(tags=_TAGS)
def dead_letter_replay() -> None:
    """Has dead letters sent again, marked `replayed`, each game's in its order.

    Launch it when what made them fail is mended. Only says what it would do unless `dry_run` is off. Who,
    when and why is recorded for each letter.
    """
    replay_dead_letters()


@dg.job(tags=_TAGS)
def dead_letter_discard() -> None:
    """Discards dead letters that nobody needs any more.

    Launch it when their games are long over. Only says what it would do unless `dry_run` is off. Who, when
    and why is recorded for each letter.
    """
    discard_dead_letters()


JOBS = [dead_letter_replay, dead_letter_discard]
