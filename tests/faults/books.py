"""Reads the books that `invariants.check` judges: from a database and the record of the local PubNub."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import class_row

from tests.faults.invariants import (
    Accepted,
    Books,
    Breach,
    Expected,
    Game,
    Numbered,
    Outcome,
    Transition,
    Written,
    check,
)

Connection = psycopg.Connection[Any]

_GAMES = """
    select g.id::text as game_id, coalesce(e.handler, 'legacy') as enrolled, g.status::text as phase,
           l.phase as live_phase,
           case when l.deadline < clock_timestamp() and not l.paused
                then extract(epoch from clock_timestamp() - l.deadline)::float8 end as overdue
    from public.games g
    left join orchestration.enrolments e on e.game_id = g.id
    left join orchestration.live_games l on l.game_id = g.id
"""
_TRANSITIONS = """
    select t.game_id::text, t.from_phase, t.to_phase, extract(epoch from t.deadline)::float8 as deadline,
           extract(epoch from t.at)::float8 as at,
           extract(epoch from t.next_deadline)::float8 as next_deadline,
           t.rebased, t.cause, t.handler,
           orchestration.phase_seconds(t.to_phase, to_jsonb(g))::float8 as seconds,
           case when t.cause = 'all_submitted' then not exists (
               select from public.game_participants p
               where p.game_id = t.game_id and p.left_at is null
                 and not exists (select from public.submissions s
                                 where s.game_id = p.game_id and s.user_id = p.user_id)) end as all_drew
    from orchestration.transitions t left join public.games g on g.id = t.game_id
    order by t.at, t.id
"""
_WRITTEN = """
    select event_id::text, game_id::text, type, channels, data ->> 'newPhase' as new_phase
    from orchestration.outbox
"""
_NUMBERED = """
    select event_id::text, game_id::text, lane::int, seq, epoch,
           extract(epoch from sequenced_at)::float8 as at
    from orchestration.sequenced order by sequenced_at
"""
_OUTCOMES = "select event_id::text, outcome, timetokens from orchestration.outcomes"
# Attempts without an answer.
_UNANSWERED = """
    select channel, event_id::text, count(*)::int from orchestration.attempts
    where verdict = 'unknown' or reason in ('timeout', 'connection', 'unreadable')
    group by 1, 2
"""
_LEDGER = """
    select format('the ledger of %s does not balance: %s', l.hour, to_jsonb(l)) from orchestration.ledger l
    where l.written <> l.delivered + l.dead + l.expired + l.waiting
"""
_FAILURES = """
    select 'trigger ' || coalesce(trigger_name, '') || ': ' || coalesce(error, '')
    from orchestration.trigger_failures where resolved_at is null
    union all
    select 'set aside: ' || error from orchestration.set_aside
    union all
    select format('%s deadlocks', deadlocks) from pg_stat_database
    where datname = current_database() and deadlocks > 0
"""


def read(connection: Connection, accepted: Iterable[dict[str, Any]]) -> Books:
    """The books of a database as they stand, with the entries of PubNub's record."""
    connection.execute("select orchestration.refresh_ledger()")
    with connection.cursor(row_factory=class_row(Game)) as rows:
        games = rows.execute(_GAMES).fetchall()
    with connection.cursor(row_factory=class_row(Transition)) as moves:
        transitions = moves.execute(_TRANSITIONS).fetchall()
    written = [
        Written(event, game, type_, tuple(channels), phase)
        for event, game, type_, channels, phase in connection.execute(_WRITTEN)
    ]
    with connection.cursor(row_factory=class_row(Numbered)) as places:
        numbered = places.execute(_NUMBERED).fetchall()
    outcomes = [
        Outcome(event, outcome, {channel: str(token) for channel, token in tokens.items()})
        for event, outcome, tokens in connection.execute(_OUTCOMES)
    ]
    failures, ledger = ([row[0] for row in connection.execute(query)] for query in (_FAILURES, _LEDGER))
    unanswered = {
        (channel, event): count for channel, event, count in connection.execute(_UNANSWERED).fetchall()
    }
    return Books(
        games, transitions, written, numbered, outcomes, _messages(accepted), failures, ledger, unanswered
    )


def _messages(entries: Iterable[dict[str, Any]]) -> list[Accepted]:
    """What the relays sent of the outbox: no check, no time sync, nothing of a gateway's own."""
    found = []
    for entry in entries:
        message = entry["message"]
        if not isinstance(message, dict) or "eventId" not in message or _is_ephemeral(message):
            continue
        found.append(
            Accepted(
                entry["channel"],
                message["eventId"],
                message["type"],
                message.get("gameId"),
                message.get("seq"),
                message.get("after"),
                str(entry["timetoken"]),
                message.get("replayed") is True,
            )
        )
    return found


def _is_ephemeral(message: dict[str, Any]) -> bool:
    return message.get("type") == "server_timer_sync" and message.get("seq") is None


def entries_of(*files: Path) -> list[dict[str, Any]]:
    """The record a PubNub wrote, file after file; a line cut off by its death is left out."""
    found = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def audit(
    connection: Connection,
    accepted: Iterable[dict[str, Any]],
    expected: Expected,
    refused: Iterable[str] = (),
) -> tuple[Books, list[Breach]]:
    """Read and check; `refused` are statements of the application that failed."""
    books = read(connection, accepted)
    books.failures.extend(f"a statement of the application failed: {error}" for error in refused)
    return books, check(books, expected)
