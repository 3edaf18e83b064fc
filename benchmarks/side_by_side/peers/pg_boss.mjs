// pg-boss. Tuned: looks every 0.5 s (its minimum) by ten workers that began 50 ms after one another, batches of 50
// worked on at once, fetched on while full; chatter is woken by notifications; jobs of a dead worker again after
// 10 s (its minimum), looked for every second (its minimum).
import { setTimeout } from "node:timers/promises";
import pg from "pg";
import { PgBoss } from "pg-boss";

import { endPhase, publish, ready, tuned, url } from "./job.mjs";

const WORKERS = 10;
const settings = { useListenNotify: true, superviseIntervalSeconds: 1, monitorIntervalSeconds: 1 };

const boss = new PgBoss({ connectionString: url, ...(tuned ? settings : {}) });
boss.on("error", (error) => process.stderr.write(`${error.message}\n`));
await boss.start();

if (process.argv[2] === "install") {
  await boss.createQueue("end_phase", tuned ? { heartbeatSeconds: 10 } : {});
  await boss.createQueue("chatter", tuned ? { heartbeatSeconds: 10, notify: true } : {});
  await boss.stop({ graceful: false });
} else {
  const pool = new pg.Pool({ connectionString: url, max: 10 });
  pool.on("error", (error) => process.stderr.write(`${error.message}\n`));
  const often = { pollingIntervalSeconds: 0.5, batchSize: 50, burstWhenBatchFull: true };
  await boss.work("chatter", tuned ? { ...often, notifyPollingIntervalSeconds: 0.5 } : {}, (jobs) =>
    Promise.all(jobs.map(({ data }) => publish(data.game, data))));
  for (let n = 0; n < (tuned ? WORKERS : 1); n++) {
    await boss.work("end_phase", tuned ? often : {}, (jobs) =>
      Promise.all(jobs.map(({ data }) => endPhase(pool, data.game))));
    await setTimeout(500 / WORKERS);
  }
  ready();
}
