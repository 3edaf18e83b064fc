// graphile-worker. Tuned: 10 ms between looks, a local queue of 500, 24 jobs at once.
import { Logger, run, runMigrations } from "graphile-worker";

import { endPhase, publish, ready, tuned, url } from "./job.mjs";

const best = { concurrentJobs: 24, maxPoolSize: 26, pollInterval: 10, localQueue: { size: 500 } };
const worker = { connectionString: url, logger: new Logger(() => () => {}), ...(tuned ? best : {}) };

if (process.argv[2] === "install") {
  await runMigrations({ preset: { worker } });
} else {
  const runner = await run({
    preset: { worker },
    taskList: {
      end_phase: ({ game }, { withPgClient }) => withPgClient((client) => endPhase(client, game)),
      chatter: (message) => publish(message.game, message),
    },
  });
  ready();
  await runner.promise;
}
