// node driver.mjs <PubNub's folder> <the client's file> <options as JSON>: runs the reference client. Each line of
// input is a command; each line of output says what the client told or did.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, file, text] = process.argv.slice(2);
const options = JSON.parse(text);
const PubNub = createRequire(import.meta.url)(folder);
const { GameClient } = await import(pathToFileURL(file));

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const pubnub = new PubNub(options.pubnub);
pubnub.addListener({ status: ({ category }) => say({ status: category }) });
const client = new GameClient({
  pubnub,
  gatewayUrl: options.gatewayUrl,
  accessToken: () => options.token,
  gameId: options.gameId,
  after: options.after,
  onEvent: (event) => say({ heard: event }),
  onProblem: (problem) => say({ problem: problem.message }),
  ...options.waits,
});
await client.start();
say({ started: true });
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "remaining") say({ remaining: client.remaining(), offset: client.offset });
  if (line === "stop") break;
}
client.stop();
pubnub.destroy?.();
say({ stopped: true });
process.exit(0);
