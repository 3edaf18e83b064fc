// graphile-worker. Tuned: 20 ms between looks, a local queue of 500, 24 jobs at once.
import pg from "pg";
import { Logger, run, runMigrations } from "graphile-worker";

import { endPhase, publish, ready, tuned, url } from "./job.mjs";

const logger = new Logger(() => () => {});
const concurrentJobs = tuned ? 24 : 1;
const pgPool = new pg.Pool({ connectionString: url, max: tuned ? 26 : 10 });

if (process.argv[2] === "install") {
  await runMigrations({ pgPool, preset: { worker: { logger } } });
  await pgPool.end();
} else {
  const worker = tuned
    ? { logger, concurrentJobs, pollInterval: 20, localQueue: { size: 500 } }
    : { logger, concurrentJobs };
  const runner = await run({
    pgPool,
    preset: { worker },
    taskList: {
      end_phase: ({ game }, { withPgClient }) => withPgClient((client) => endPhase(client, game)),
      chatter: (message) => publish(message.game, message),
    },
  });
  ready();
  await runner.promise;
}
