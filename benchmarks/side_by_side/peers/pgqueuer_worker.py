"""PgQueuer. Tuned: 10 ms between looks, batches of 50, dead workers' jobs again after 5 s."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

import job
import psycopg
from pgqueuer import PgQueuer
from pgqueuer.db import PsycopgDriver
from pgqueuer.models import Job as Queued
from pgqueuer.queries import Queries


async def main() -> None:
    async with await psycopg.AsyncConnection.connect(job.URL, autocommit=True) as connection:
        if sys.argv[1] == "install":
            await Queries(PsycopgDriver(connection)).install()
            return
        work = job.Job(10)
        await work.open()
        queue = PgQueuer.from_psycopg_connection(connection)

        @queue.entrypoint("end_phase")
        async def end_phase(queued: Queued) -> None:
            await work.end_phase((queued.payload or b"").decode())

        @queue.entrypoint("chatter")
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


asyncio.run(main())
