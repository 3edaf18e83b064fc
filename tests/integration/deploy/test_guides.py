"""The guides in docs/how-to: their SQL runs, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from sketchy_orchestration.settings import Settings

ROOT = Path(__file__).parents[3]
GUIDES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
# pg_cron is not among the embedded server's extensions: its table and the one function that the guide calls.
_CRON = """
    create schema cron;
    create table cron.job (jobid bigint, jobname text, schedule text, command text, active boolean);
    insert into cron.job values
        (7, 'timers', '10 seconds', 'select monitor_game_timers_db()', true), (8, 'x', '', 'y', true);
    create function cron.alter_job(job_id bigint, schedule text default null, active boolean default null)
        returns void language sql as $$ update cron.job set active = alter_job.active where jobid = job_id $$;
"""


def test_the_sql_of_the_supabase_guide_runs(connection: psycopg.Connection) -> None:
    connection.execute(_CRON)
    text = (ROOT / "docs" / "how-to" / "supabase.md").read_text(encoding="utf-8")
    count, off, on = re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    connection.execute("insert into public.games (prompt) values ('a cat'), ('a dog')")
    # At 0 % all games are the old handler's.
    assert connection.execute(count).fetchone() == (2,)
    jobs = "select jobid, active from cron.job order by 1"
    connection.execute(off)
    assert connection.execute(jobs).fetchall() == [(7, False), (8, True)]
    connection.execute(on)
    assert connection.execute(jobs).fetchall() == [(7, True), (8, True)]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_what_a_guide_names_exists(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w./-])deploy/[\w./*-]+[\w*]", text):
        assert list(ROOT.glob(name)), name
    known = {name.upper() for name in Settings.model_fields}
    known |= {"SKETCHY_DAGSTER_STORAGE_URL", "SKETCHY_WEBSERVER_OPTIONS", "SKETCHY_VERSION", "ON_ERROR_STOP"}
    named = set(re.findall(r"\b[A-Z]{3,}(?:_[A-Z]+)+\b", text))
    assert named <= known
