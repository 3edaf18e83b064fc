"""PgQueuer. Tuned: 10 ms between looks, batches of 50, dead workers' jobs again after 5 s, failed ones soon.

With asyncpg and uvloop, as its own command has it: on psycopg its watcher of notifications keeps the
connection for a second at a time, and every look waits for it.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from functools import partial

import asyncpg
import job
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.executors import DatabaseRetryEntrypointExecutor
from pgqueuer.models import Job as Queued
from pgqueuer.queries import Queries

_AGAIN = partial(DatabaseRetryEntrypointExecutor, initial_delay=timedelta(milliseconds=100))


async def main() -> None:
    if sys.argv[1] == "install":
        connection = await asyncpg.connect(job.URL)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()
        return
    work = job.Job(10)
    await work.open()
    async with asyncpg.create_pool(job.URL, min_size=2, max_size=4) as pool:
        queue = PgQueuer.from_asyncpg_pool(pool)
        again = {"executor_factory": _AGAIN} if job.TUNED else {}

        @queue.entrypoint("end_phase", **again)
        async def end_phase(queued: Queued) -> None:
            await work.end_phase((queued.payload or b"").decode())

        @queue.entrypoint("chatter", **again)
        async def chatter(queued: Queued) -> None:
            message = json.loads(queued.payload or b"{}")
            await work.publish(message["game"], message)

        job.ready()
        if job.TUNED:
            queue.qm.min_dequeue_poll_interval = timedelta(milliseconds=10)
            await queue.run(
                batch_size=50,
                dequeue_timeout=timedelta(seconds=1),
                heartbeat_timeout=timedelta(seconds=5),
            )
        else:
            await queue.run()


uvloop.run(main())
