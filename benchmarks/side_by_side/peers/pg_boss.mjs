// pg-boss. Tuned: 0.5 s between looks (its minimum), batches of 50 worked on at once, fetched on while full,
// woken by notifications; jobs of a dead worker again after 10 s (its minimum).
import pg from "pg";
import { PgBoss } from "pg-boss";

import { endPhase, publish, ready, tuned, url } from "./job.mjs";

const boss = new PgBoss({ connectionString: url, ...(tuned ? { useListenNotify: true } : {}) });
boss.on("error", (error) => process.stderr.write(`${error.message}\n`));
await boss.start();

if (process.argv[2] === "install") {
  for (const queue of ["end_phase", "chatter"]) {
    await boss.createQueue(queue, tuned ? { heartbeatSeconds: 10, notify: true } : {});
  }
  await boss.stop({ graceful: false });
} else {
  const pool = new pg.Pool({ connectionString: url, max: 10 });
  const options = tuned
    ? { pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5, batchSize: 50, burstWhenBatchFull: true }
    : {};
  await boss.work("end_phase", options, (jobs) =>
    Promise.all(jobs.map(({ data }) => endPhase(pool, data.game))));
  await boss.work("chatter", options, (jobs) =>
    Promise.all(jobs.map(({ data }) => publish(data.game, data))));
  ready();
}
