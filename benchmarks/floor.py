"""The floor: the least that can end a phase on time: sleep until the next deadline, then one statement.

Run by benchmarks.timers in a process of its own: DATABASE_URL=... python -m benchmarks.floor SECONDS
"""

from __future__ import annotations

import os
import sys
import time

import psycopg

END_DUE = """
    with due as (
        select id from floor.phases where ended_at is null and deadline <= clock_timestamp()
        order by deadline limit 500 for update skip locked
    ), ended as (
        update floor.phases p set ended_at = clock_timestamp() from due where p.id = due.id
        returning p.id, p.deadline
    )
    insert into floor.ends (phase_id, deadline) select id, deadline from ended
"""
NEXT = """
    select extract(epoch from min(deadline) - clock_timestamp())::float8
    from floor.phases where ended_at is null
"""
LONGEST_SLEEP = 0.25


def main() -> None:
    # Not as an argument: command lines are everybody's to read, and the URL holds a password.
    url, seconds = os.environ["DATABASE_URL"], float(sys.argv[1])
    until = time.monotonic() + seconds
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < until:
            connection.execute(END_DUE, prepare=True)
            row = connection.execute(NEXT, prepare=True).fetchone()
            left = row[0] if row and row[0] is not None else LONGEST_SLEEP
            if left > 0:
                time.sleep(min(left, LONGEST_SLEEP))


if __name__ == "__main__":
    main()
