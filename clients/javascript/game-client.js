// The reference client: a game's events in order, each once, none missed, and the countdown on the server's clock.
const RESUMED = /^PN(Connected|Reconnected|NetworkUp)Category$/;
export class GameClient {
  #seen = new Set(); // ids of events told
  #held = []; // events to be told when what is missing before them has been
  #fetching = null;
  #stopped = false;
  #last;
  offset = 0; // ms the server's clock is ahead of this one
  phaseExpiresAt = null; // ms since 1970
  /** accessToken(): the player's token. after: the last seq already known; else events from now on are told. */
  constructor({ pubnub, gatewayUrl, accessToken, gameId, onEvent, onProblem = () => {}, after = null, ...waits }) {
    Object.assign(this, { pubnub, gatewayUrl, accessToken, gameId, onEvent, onProblem, retryMs: 1000, checkMs: 30_000, ...waits });
    [this.#last, this.channels] = [after, [`game-${gameId}`]];
    this.listener = {
      message: ({ channel, message }) => channel === this.channels[0] && this.#hear(message),
      status: ({ category }) => {
        if (RESUMED.test(category)) this.catchUp();
        if (category === "PNDisconnectedUnexpectedlyCategory") this.pubnub.reconnect();
      },
    };
  }

  async start() {
    await this.authorize();
    await this.syncClock();
    this.#last ??= (await this.#post("game-events", { gameId: this.gameId, after: Number.MAX_SAFE_INTEGER })).lastSeq;
    this.pubnub.addListener(this.listener);
    this.pubnub.subscribe({ channels: this.channels }); // once connected, the status above catches up
    this.timer = setInterval(() => this.catchUp(), this.checkMs); // a lost last event has no later one to tell of it
  }

  stop() {
    this.#stopped = true;
    clearInterval(this.timer);
    this.pubnub.removeListener(this.listener);
    this.pubnub.unsubscribe({ channels: this.channels });
  }

  /** Milliseconds until the phase ends; null while no deadline is known. */
  remaining() {
    return this.phaseExpiresAt === null ? null : Math.max(0, this.phaseExpiresAt - (Date.now() + this.offset));
  }

  /** Call again before the token's ttl (minutes) is over, and after joining another game. */
  async authorize() {
    const granted = await this.#post("pubnub-auth", {}, 404); // 404: this keyset grants no tokens and needs none
    if (granted) this.pubnub.setToken(granted.token);
  }

  async syncClock() {
    const before = Date.now();
    const timer = await this.#post("get-game-timer", { gameId: this.gameId });
    this.offset = Date.parse(timer.serverTime) - (before + Date.now()) / 2;
    this.#setDeadline(timer.phaseExpiresAt);
  }

  /** Fetches what was missed; what is heard meanwhile is held back, so that the order stays. */
  catchUp() {
    return (this.#fetching ??= this.#fetchMissed().catch(this.onProblem).finally(() => (this.#fetching = null)));
  }

  async #fetchMissed() {
    for (let more = true; more; more ||= this.#held.some((event) => event.truncated && event.seq > this.#last)) {
      const answer = await this.#post("game-events", { gameId: this.gameId, after: this.#last });
      if (!answer.complete) this.onProblem(new Error("some events are no longer kept: load the game anew"));
      for (const { state, event } of answer.events) if (state !== "expired") this.#tell(event);
      this.#last = Math.max(this.#last, answer.events.at(-1)?.event.seq ?? answer.lastSeq);
      more = answer.more;
    }
    for (const event of this.#held.splice(0).sort((a, b) => a.seq - b.seq)) this.#tell(event);
  }

  #hear(event) {
    const whole = !event.truncated && !(event.after > this.#last);
    if (event.seq === undefined || (whole && this.#fetching === null)) return this.#tell(event);
    return this.#held.push(event) && this.catchUp();
  }

  #tell(event) {
    if (this.#stopped || this.#seen.has(event.eventId) || (event.seq <= this.#last && !event.replayed)) return;
    this.#seen.add(event.eventId);
    if (this.#seen.size > 500) this.#seen.delete(this.#seen.values().next().value);
    if (event.seq > this.#last) this.#last = event.seq;
    if (/^(phase_changed|server_timer_sync)$/.test(event.type)) this.#setDeadline((event.data.gameData ?? event.data).phaseExpiresAt);
    this.onEvent(event);
  }

  #setDeadline = (moment) => (this.phaseExpiresAt = moment ? Date.parse(moment) : null);
  async #post(name, body, unless) {
    for (let wait = this.retryMs; ; wait = Math.min(wait * 2, 30_000)) {
      const request = { method: "POST", headers: { authorization: `Bearer ${await this.accessToken()}` }, body: JSON.stringify(body) };
      const answer = await fetch(`${this.gatewayUrl}/functions/v1/${name}`, request).catch(() => null);
      if (answer?.ok) return answer.json();
      if (answer && answer.status === unless) return null;
      if (this.#stopped || (answer && answer.status < 500 && answer.status !== 429)) throw new Error(`${name}: ${answer?.status}`);
      await new Promise((done) => setTimeout(done, Math.max(wait, 1000 * (answer?.headers.get("retry-after") ?? 0))));
    }
  }
}
