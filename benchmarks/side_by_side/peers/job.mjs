// The job every JavaScript peer does: end the phase and record it in one statement, then publish over HTTP.
import http from "node:http";

export const url = process.env.BENCH_URL;
export const tuned = process.env.BENCH_TUNED === "1";

const [host, port] = process.env.BENCH_ORIGIN.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 100 });

export function publish(game, message) {
  const path =
    `/publish/pub-c-local/sub-c-local/0/game-${game}/0/${encodeURIComponent(JSON.stringify(message))}?uuid=peer`;
  return new Promise((resolve, reject) => {
    const request = http.get({ host, port, path, agent }, (answer) => {
      answer.resume();
      answer.on("end", () =>
        answer.statusCode === 200 ? resolve() : reject(new Error(`publish: ${answer.statusCode}`)));
    });
    request.on("error", reject);
  });
}

export async function endPhase(client, game) {
  const { rows } = await client.query({
    name: "end_phase", text: "select bench.end_phase($1) as message", values: [game],
  });
  await publish(game, rows[0].message);
}

export function ready() {
  process.stdout.write("ready\n");
}
