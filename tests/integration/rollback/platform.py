"""Stands in for what runs releases elsewhere: does what it is told by commands, and writes down that it was.

Usage: RELEASE=... python platform.py URL LABEL_OF_THE_NEW LABEL_OF_THE_OLD code|shifts|undo
"""

import os
import sys

import psycopg

BEGIN = """
    insert into orchestration.shifts (shift_id, kind, version, host, pid, release, heartbeat_at)
    select gen_random_uuid(), k, '1', 'elsewhere', 1, %s, clock_timestamp() + interval '1 hour'
    from unnest(array['timer', 'timer', 'fanout', 'fanout']) k
    where not exists (select from orchestration.shifts s
                      where s.release = %s and s.ended_at is null and s.relieved_by is null)
"""
_END = "update orchestration.shifts set ended_at = clock_timestamp() where release = %s and ended_at is null"


def main(url: str, new: str, old: str, what: str) -> None:
    release = os.environ["RELEASE"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("insert into public.commands (what, release) values (%s, %s)", [what, release])
        if connection.execute("select from public.broken where what = %s", [what]).fetchone() is not None:
            sys.exit("no room")
        if what == "shifts":
            connection.execute(BEGIN, [new, new])
        elif what == "undo" and release == "previous":
            connection.execute(BEGIN, [old, old])
        elif what == "undo":
            connection.execute(_END, [new])


if __name__ == "__main__":
    main(*sys.argv[1:])
