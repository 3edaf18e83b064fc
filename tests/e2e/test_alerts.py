"""Faults in a running system: each alert fires once where it should, and ends when its fault does."""

from __future__ import annotations

import re
import signal
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from sketchy_orchestration.monitoring import housekeeping
from tests.e2e.watched import Watched, watched_system

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("alerts"), pytest.mark.timeout(400)]

_CANNOT_MOVE = """
    create function public.slow_or_broken() returns trigger language plpgsql as $$
    begin
        if new.prompt = 'broken' and new.status is distinct from old.status then
            raise exception 'not this one';
        elsif new.prompt = 'slow' and new.status is distinct from old.status then
            perform pg_sleep(3);
        end if;
        return new;
    end $$;
    create trigger slow_or_broken before update on public.games
        for each row execute function public.slow_or_broken();
"""
_NO_DAYS_AHEAD = """
    do $$ declare v_table regclass; begin
        for v_table in select i.inhrelid::regclass from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent = 'orchestration.attempts'::regclass
              and right(c.relname, 8) > to_char(now() at time zone 'UTC' + interval '1 day', 'YYYYMMDD')
        loop execute 'drop table ' || v_table; end loop;
    end $$
"""
_TIME_PASSES = """
    update orchestration.attempts set at = at - interval '6 minutes'
    where at > now() - interval '6 minutes';
    update orchestration.metric_minutes set minute = minute - interval '{0}';
"""
_NOBODY_MAY_ROLL_UP = (
    "revoke execute on function orchestration.roll_up_minutes(timestamptz, interval) from sketchy_operator"
)
_LOST = """
    delete from orchestration.outcomes where outbox_id =
        (select min(id) from orchestration.outbox where game_id = %s)
"""
_UNSETTLED = """
    select count(*) from orchestration.outbox o where o.game_id = %s
      and not exists (select from orchestration.outcomes c where c.outbox_id = o.id)
"""


def test_every_fault_is_told_once_and_its_end_too(home: Path) -> None:
    with watched_system(home) as watched:
        players_leave(watched)
        pubnub_fails_and_throttles(watched)
        publishing_comes_near_its_rate(watched)
        lost = an_outcome_is_lost(watched)
        the_key_is_wrong(watched)
        the_loss_is_settled(watched, lost)
        all_shifts_hang(watched)
        one_shift_dies(watched, home)
        watched.resolves(0, "ledger_unaccounted")
        the_database_is_misused(watched)
        games_and_events_break(watched)
        a_channel_is_away(watched)
        a_sweep_takes_long(watched)
        nobody_rolls_up(watched)
        budgets_burned_and_the_plan_was_used(watched)
        nothing_was_told_that_is_not_written_down(watched)
        print(sorted({row[0] for row in watched.alerts(0)}))  # noqa: T201  figures of the report


def players_leave(watched: Watched) -> None:
    scene, after = watched.scene, watched.newest()
    games = [scene.game(players=0).id for _ in range(3)]
    # They had come before anybody looked; now their connections break.
    scene.flag("triggers", enabled=False)
    players = [(game, user) for game in games for user in scene.users(8)]
    for game, user in players:
        scene.join(game, user)
    scene.flag("triggers", enabled=True)
    for game, user in players:
        scene.leave(game, user)
    watched.fires(after, "presence_anomaly")
    for _ in range(10):
        scene.game(players=6)
    watched.resolves(after, "presence_anomaly")


def pubnub_fails_and_throttles(watched: Watched) -> None:
    after = watched.newest()
    watched.pubnub.faults.on("status", operations=["publish"], status=503, channels="game-*", share=0.5)
    watched.pubnub.faults.on("rate-limited", operations=["publish"], channels="game-*", times=2)
    for _ in range(8):
        watched.scene.game(players=6)
    watched.fires(after, "pubnub_failures", "pubnub_throttled")
    watched.pubnub.faults.off()
    watched.over("events_waiting")


def publishing_comes_near_its_rate(watched: Watched) -> None:
    after = watched.newest()
    watched.scene.flag("publish_rate", value=1)
    for _ in range(4):
        watched.scene.game(players=6)
    watched.fires(after, "pubnub_rate_limit_near", "events_held_back")
    watched.scene.flag("publish_rate", value=0)
    watched.resolves(after, "pubnub_rate_limit_near", "events_held_back")
    watched.over("events_waiting")


def an_outcome_is_lost(watched: Watched) -> str:
    """As if a relay had forgotten the event; the game."""
    scene = watched.scene
    game = scene.game(players=2)
    scene.join(game.id, scene.users(1)[0])
    watched.until(lambda: scene.one(_UNSETTLED, game.id) == 0, "not everything is delivered")
    scene.do(_LOST, game.id)
    return game.id


def the_loss_is_settled(watched: Watched, game: str) -> None:
    """It was told while everything else waited, too; somebody acts by the runbook."""
    watched.fires(0, "ledger_unaccounted")
    assert watched.scene.one(_UNSETTLED, game) == 1
    (settle,) = [text for text in sql_of("ledger-unaccounted.md") if text.startswith("insert")]
    watched.scene.do(settle)


def sql_of(runbook: str) -> list[str]:
    """The statements it gives to psql."""
    return re.findall(r'^psql .* -c "(.*)"$', (RUNBOOKS / runbook).read_text(encoding="utf-8"), re.MULTILINE)


def the_key_is_wrong(watched: Watched) -> None:
    after = watched.newest()
    watched.pubnub.faults.on("wrong-key")
    watched.scene.game(players=3)
    watched.fires(after, "circuit_open", "canary_silent", "events_waiting")
    watched.pubnub.faults.off()
    watched.resolves(after, "circuit_open", "canary_silent", "events_waiting")


def all_shifts_hang(watched: Watched) -> None:
    after = watched.newest()
    for kind in watched.shifts:
        watched.send(kind, signal.SIGSTOP)
    watched.scene.game("briefing", due_in=0.2, round_duration=300)
    # With a shift gone and games overdue the dead man's switch is told nothing.
    watched.fires(after, "games_overdue", "shifts_gone", "shift_missing", "events_waiting")
    told = len(watched.alive.paths)
    looks = watched.scene.one("select max(id) from orchestration.observations")
    watched.until(
        lambda: watched.scene.one("select max(id) from orchestration.observations") >= looks + 3, "no looks"
    )
    assert len(watched.alive.paths) == told
    for kind in watched.shifts:
        watched.send(kind, signal.SIGCONT)
    watched.resolves(after, "games_overdue", "shifts_gone", "shift_missing", "events_waiting")
    watched.until(lambda: len(watched.alive.paths) > told, "the dead man's switch is told nothing")


def one_shift_dies(watched: Watched, home: Path) -> None:
    after = watched.newest()
    victim = watched.shifts["timer"].pop()
    victim.kill()
    victim.wait(10)
    watched.fires(after, "shift_missing")
    watched.shifts["timer"].append(watched.start(home, "shift", "timer"))
    watched.resolves(after, "shift_missing")
    assert "shifts_gone" not in {row[0] for row in watched.alerts(after)}


def the_database_is_misused(watched: Watched) -> None:
    after = watched.newest()
    with ExitStack() as stack:
        forgotten = stack.enter_context(psycopg.connect(watched.url))
        forgotten.execute("select count(*) from public.games")
        most = int(watched.scene.one("show max_connections"))
        in_use = int(
            watched.scene.one("select count(*) from pg_stat_activity where backend_type = 'client backend'")
        )
        for _ in range(int(0.85 * most) - in_use):
            stack.enter_context(psycopg.connect(watched.url, autocommit=True))
        watched.scene.do(_NO_DAYS_AHEAD)
        watched.scene.flag("grace_period", enabled=False)
        old = watched.settings.model_copy(
            update={"keys_rotated": {"CRON_SECRET": datetime(2020, 1, 1, tzinfo=UTC).date()}}
        )
        housekeeping.key_ages(old)
        watched.fires(
            after, "old_transaction", "database_connections", "partitions_ahead", "switched_off", "key_age"
        )
        forgotten.rollback()
    housekeeping.partitions(watched.settings)
    watched.scene.flag("grace_period", enabled=True)
    new = {"keys_rotated": {"CRON_SECRET": datetime.now(UTC).date()}}
    housekeeping.key_ages(watched.settings.model_copy(update=new))
    watched.resolves(
        after, "old_transaction", "database_connections", "partitions_ahead", "switched_off", "key_age"
    )


def games_and_events_break(watched: Watched) -> None:
    scene, after = watched.scene, watched.newest()
    scene.do(_CANNOT_MOVE)
    broken = scene.game("briefing", due_in=30, round_duration=300)
    scene.do("update public.games set prompt = 'broken' where id = %s", broken.id)
    scene.do("update public.games set phase_expires_at = clock_timestamp() where id = %s", broken.id)
    refused = scene.game()
    watched.pubnub.faults.on(
        "status",
        operations=["publish"],
        status=400,
        body='[0,"Invalid JSON","0"]',
        channels=f"game-{refused.id}",
    )
    scene.join(refused.id, scene.users(1)[0])
    unseen = scene.game()
    scene.do(
        "alter table orchestration.outbox add constraint refuses check (type <> 'player_joined') not valid"
    )
    scene.join(unseen.id, scene.users(1)[0])
    scene.do("alter table orchestration.outbox drop constraint refuses")
    watched.pubnub.faults.on("latency", operations=["publish"], delay=1.2, channels="canary-*")
    rules = ("games_set_aside", "dead_letters", "trigger_failures", "canary_slow")
    watched.fires(after, *rules)
    watched.pubnub.faults.off()
    scene.do("update public.games set prompt = 'mended' where id = %s", broken.id)
    scene.do("update orchestration.set_aside set retry_at = clock_timestamp()")
    scene.do("update orchestration.dead_letters set discarded_at = clock_timestamp()")
    assert housekeeping.reconcile(watched.settings).made["repairs"] >= 1
    watched.resolves(after, *rules)
    assert scene.phase(broken.id) == "drawing"


def a_channel_is_away(watched: Watched) -> None:
    """Slack is told later, what it missed included; meanwhile the others hear that it is away."""
    after, slack = watched.newest(), watched.heard["slack"]
    slack.failing = True
    watched.scene.flag("grace_period", enabled=False)
    watched.fires(after, "switched_off", "alert_channel_failing")
    away = "messages could not be delivered through slack"
    watched.until(lambda: any(away in title for title in watched.heard["email"].titles), "nobody hears of it")
    slack.failing = False
    watched.scene.flag("grace_period", enabled=True)
    watched.resolves(after, "switched_off", "alert_channel_failing")


def a_sweep_takes_long(watched: Watched) -> None:
    scene, after = watched.scene, watched.newest()
    slow = scene.game("briefing", due_in=30, round_duration=300)
    scene.do("update public.games set prompt = 'slow' where id = %s", slow.id)
    scene.do("update public.games set phase_expires_at = clock_timestamp() where id = %s", slow.id)
    watched.fires(after, "sweep_timeout")
    # It was set aside, so that no other waits for it; once it can be moved it is.
    scene.do("update public.games set prompt = 'quick again' where id = %s", slow.id)
    scene.do("update orchestration.set_aside set retry_at = clock_timestamp()")
    watched.until(lambda: scene.phase(slow.id) == "drawing", "the slow game does not move")


def nobody_rolls_up(watched: Watched) -> None:
    """The roll-up fails, and time goes on; alerts of the moment still work, as this one shows."""
    scene, after = watched.scene, watched.newest()
    scene.do(_NOBODY_MAY_ROLL_UP)
    scene.do("update orchestration.rolled_up set until = until - interval '5 minutes'")
    watched.fires(after, "roll_up_late")
    scene.do(_NOBODY_MAY_ROLL_UP.replace("revoke", "grant").replace(" from ", " to "))
    watched.resolves(after, "roll_up_late")


def budgets_burned_and_the_plan_was_used(watched: Watched) -> None:
    """All that failed above: it shows once its minutes have ended, and is over when they have passed."""
    scene = watched.scene
    now = scene.one("select clock_timestamp()")

    def counted() -> bool:
        scene.do("select orchestration.roll_up_minutes(clock_timestamp() + interval '1 minute')")
        return bool(scene.one("select until > %s from orchestration.rolled_up", now))

    watched.until(counted, "the minute is not rolled up")
    watched.fires(0, "high_error_rate", "budget_burning_fast", "pubnub_usage")
    after = watched.newest()
    # Out of the window of an hour, not out of that of three days.
    scene.do(_TIME_PASSES.format("90 minutes"))
    watched.resolves(0, "high_error_rate", "budget_burning_fast", "pubnub_failures", "pubnub_throttled")
    watched.fires(after, "budget_burning_slow")
    scene.do(_TIME_PASSES.format("31 days"))
    watched.resolves(after, "budget_burning_slow")
    watched.resolves(0, "pubnub_usage")


def nothing_was_told_that_is_not_written_down(watched: Watched) -> None:
    for channel, received in watched.heard.items():

        def same(channel: str = channel, titles: list[str] = received.titles) -> bool:
            written = watched.scene.rows(
                "select title from orchestration.alert_messages"
                " where channel = %s and delivered_at is not null",
                channel,
            )
            return Counter(title for (title,) in written) == Counter(titles)

        watched.until(same, f"{channel} heard something else than was written down")
        assert received.titles
