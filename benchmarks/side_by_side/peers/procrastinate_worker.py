"""procrastinate. Tuned: 100 ms between looks, 16 jobs at once, finished jobs deleted."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import job
from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=job.URL))
work = job.Job(10)


@app.task(name="end_phase")
async def end_phase(game: str) -> None:
    await work.end_phase(game)


@app.task(name="chatter")
async def chatter(**message: Any) -> None:
    await work.publish(message["game"], message)


async def main() -> None:
    async with app.open_async():
        if sys.argv[1] == "install":
            await app.schema_manager.apply_schema_async()
            return
        await work.open()
        job.ready()
        if job.TUNED:
            await app.run_worker_async(
                concurrency=16, fetch_job_polling_interval=0.1, delete_jobs="successful"
            )
        else:
            await app.run_worker_async()


asyncio.run(main())
