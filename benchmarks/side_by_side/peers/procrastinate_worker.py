"""procrastinate. Tuned: 10 ms between looks, 16 jobs at once, finished jobs deleted, failed ones again at
once, dead workers' jobs again after 3 s, by the periodic task its manual tells of."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import job
from procrastinate import App, JobContext, PsycopgConnector, RetryStrategy

_CONCURRENCY = 16
_STALLED_SECONDS = 3.0

if job.TUNED:
    app = App(connector=PsycopgConnector(conninfo=job.URL, min_size=4, max_size=_CONCURRENCY))
else:
    app = App(connector=PsycopgConnector(conninfo=job.URL))
work = job.Job(10)
_AGAIN: Any = {"retry": RetryStrategy(max_attempts=10)} if job.TUNED else {}


@app.task(name="end_phase", **_AGAIN)
async def end_phase(game: str) -> None:
    await work.end_phase(game)


@app.task(name="chatter", **_AGAIN)
async def chatter(**message: Any) -> None:
    await work.publish(message["game"], message)


async def retry_stalled(context: JobContext, **_: int) -> None:
    manager = context.app.job_manager
    for stalled in await manager.get_stalled_jobs(seconds_since_heartbeat=_STALLED_SECONDS):
        await manager.retry_job(stalled)


if job.TUNED:
    # The sixth field is of seconds.
    app.periodic(cron="* * * * * *")(
        app.task(name="retry_stalled", queueing_lock="retry_stalled", pass_context=True)(retry_stalled)
    )


async def main() -> None:
    async with app.open_async():
        if sys.argv[1] == "install":
            await app.schema_manager.apply_schema_async()
            return
        await work.open()
        job.ready()
        if job.TUNED:
            await app.run_worker_async(
                concurrency=_CONCURRENCY,
                fetch_job_polling_interval=0.01,
                delete_jobs="successful",
                update_heartbeat_interval=1.0,
                stalled_worker_timeout=_STALLED_SECONDS,
            )
        else:
            await app.run_worker_async()


asyncio.run(main())
