// One suite for node and for a page in a browser: the official JavaScript SDK through every operation.
// `options`: { origin, publishKey, subscribeKey, enableEventEngine, room, access: { origin, ..., secretKey or token } }
(function (root) {
  const equal = (got, wanted, what) => {
    const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
    if (a !== b) throw new Error(`${what}: got ${a}, wanted ${b}`);
  };
  const until = async (condition, what) => {
    const end = Date.now() + 10000;
    while (!(await condition())) {
      if (Date.now() > end) throw new Error(`did not come true: ${what}`);
      await new Promise((done) => setTimeout(done, 10));
    }
  };
  const refused = async (promise) => {
    try {
      await promise;
    } catch (error) {
      return { status: error.status.statusCode, text: JSON.stringify(error.status.errorData) };
    }
    throw new Error('was not refused');
  };

  function steps(PubNub, options) {
    const clients = [];
    const connect = (userId, settings = {}, target = options) => {
      const client = new PubNub({
        origin: target.origin,
        ssl: false,
        publishKey: target.publishKey,
        subscribeKey: target.subscribeKey,
        userId,
        enableEventEngine: options.enableEventEngine,
        presenceTimeout: 20,
        restore: false,
        ...settings,
      });
      clients.push(client);
      return client;
    };
    const listen = (client) => {
      const heard = { messages: [], signals: [], presences: [], statuses: [] };
      client.addListener({
        message: (event) => heard.messages.push(event),
        signal: (event) => heard.signals.push(event),
        presence: (event) => heard.presences.push(`${event.action} ${event.uuid}`),
        status: (event) => heard.statuses.push(event.category),
      });
      return heard;
    };
    const connected = (heard) => until(() => heard.statuses.includes('PNConnectedCategory'), 'connected');
    const named = (name) => `${name}-${options.room}`;

    const all = {
      async publish_get_and_post() {
        const me = connect('me');
        const message = { text: 'zoë / ?&% !\'()*~', list: [1, null, true] };
        const extra = { meta: { k: 'v w' }, customMessageType: 'my-type', storeInHistory: true, ttl: 2 };
        const channel = named('published');
        for (const sendByPost of [false, true]) {
          const answer = await me.publish({ channel, message, sendByPost, ...extra });
          equal(String(answer.timetoken).length, 17, 'timetoken');
        }
        const page = await me.fetchMessages({ channels: [channel], includeMeta: true, includeCustomMessageType: true });
        const [first, second] = page.channels[channel];
        equal([first.message, second.message], [message, message], 'messages');
        equal([second.meta, second.uuid, second.customMessageType], [extra.meta, 'me', 'my-type'], 'extras');
      },
      async fire_and_signal() {
        const me = connect('me');
        // Its promise is resolved with nothing, so the answer is only seen through the callback.
        const fired = await new Promise((done) =>
          me.fire({ channel: named('fired'), message: { a: 1 } }, (status, answer) => done(answer))
        );
        equal(String(fired.timetoken).length, 17, 'fire');
        equal(String((await me.signal({ channel: named('fired'), message: 'hi' })).timetoken).length, 17, 'signal');
        equal((await me.fetchMessages({ channels: [named('fired')] })).channels, {}, 'nothing is stored');
      },
      async subscribe_hears_everything_in_order() {
        const [me, you] = [connect('me'), connect('you')];
        const heard = listen(me);
        const channels = [named('room'), named('hall')];
        me.subscribe({ channels, withPresence: true });
        await connected(heard);
        for (let n = 0; n < 30; n++) {
          await you.publish({ channel: channels[n % 2], message: { n }, meta: { n } });
        }
        await you.signal({ channel: channels[0], message: 'blink' });
        await until(() => heard.messages.length >= 30 && heard.signals.length, 'messages and signal');
        equal(heard.messages.map((event) => event.message.n), [...Array(30).keys()], 'order');
        const first = heard.messages[0];
        equal([first.channel, first.publisher, first.userMetadata], [channels[0], 'you', { n: 0 }], 'envelope');
        equal(heard.signals[0].message, 'blink', 'signal');
        await until(() => heard.presences.includes('join me'), 'own join');
        me.unsubscribeAll();
      },
      async presence() {
        const [watcher, guest] = [connect('watcher'), connect('guest')];
        const channel = named('watched');
        const heard = listen(watcher);
        watcher.subscribe({ channels: [channel], withPresence: true });
        await connected(heard);
        const guestHeard = listen(guest);
        guest.subscribe({ channels: [channel] });
        await connected(guestHeard);
        await until(() => heard.presences.includes('join guest'), 'join');
        const here = await watcher.hereNow({ channels: [channel], includeUUIDs: true });
        const uuids = here.channels[channel].occupants.map((occupant) => occupant.uuid).sort();
        equal([here.totalOccupancy, uuids], [2, ['guest', 'watcher']], 'here now');
        const several = await watcher.hereNow({ channels: [channel, named('empty')] });
        equal(several.totalChannels, 1, 'here now of several');
        const everywhere = await watcher.hereNow({});
        equal(everywhere.channels[channel].occupancy, 2, 'here now of all');
        equal((await watcher.whereNow({ uuid: 'guest' })).channels, [channel], 'where now');
        guest.unsubscribe({ channels: [channel] });
        await until(() => heard.presences.includes('leave guest'), 'leave');
        watcher.unsubscribeAll();
      },
      async history_and_counts() {
        const me = connect('me');
        const channel = named('history');
        const tokens = [];
        for (let n = 0; n < 110; n++) tokens.push((await me.publish({ channel, message: `${n}` })).timetoken);
        const page = (await me.fetchMessages({ channels: [channel], count: 100 })).channels[channel];
        equal([page.length, page[0].message, page[99].message], [100, '10', '109'], 'newest page');
        const older = await me.fetchMessages({ channels: [channel], start: page[0].timetoken });
        equal(older.channels[channel].map((item) => +item.message), [...Array(10).keys()], 'page before');
        const missed = await me.fetchMessages({ channels: [channel], end: tokens[107] });
        equal(missed.channels[channel].map((item) => +item.message), [107, 108, 109], 'missed');
        const many = await me.fetchMessages({ channels: [channel, named('empty')] });
        equal(many.channels[channel].length, 25, 'several channels');
        const counts = await me.messageCounts({ channels: [channel], channelTimetokens: [tokens[100]] });
        equal(counts.channels[channel], 10, 'counts');
      },
      async time() {
        equal(String((await connect('me').time()).timetoken).length, 17, 'time');
      },
      async errors() {
        const wrong = await refused(connect('me', { publishKey: 'wrong' }).publish({ channel: 'a', message: 1 }));
        equal([wrong.status, wrong.text], [400, '"Invalid Key"'], 'wrong key');
        const text = 'x'.repeat(40000);
        const large = await refused(connect('me').publish({ channel: 'a', message: text, sendByPost: true }));
        equal([large.status, large.text], [400, '"Message Too Large"'], 'too large');
        const left_out = await refused(connect('me').channelGroups.listGroups());
        equal(left_out.status, 400, 'left out');
      },
      async access_manager() {
        const target = options.access;
        // The SDK's build for browsers never signs: there a server's token is used.
        const server = target.secretKey && connect('server', { secretKey: target.secretKey }, target);
        if (server) {
          await server.publish({ channel: 'room', message: { a: "signed ~!'()*" }, meta: { k: 'ü' } });
          await server.publish({ channel: 'room', message: { a: 'signed' }, sendByPost: true });
        }
        const token = !server
          ? target.token
          : await server.grantToken({
              ttl: 15,
              authorized_uuid: 'guest',
              resources: { channels: { room: { read: true, write: true } } },
              patterns: { channels: { '^hall-.*$': { read: true } } },
              meta: { level: 3 },
            });
        const parsed = connect('me').parseToken(token);
        equal([parsed.version, parsed.ttl, parsed.authorized_uuid], [2, 15, 'guest'], 'parsed');
        equal(parsed.resources.channels.room.write, true, 'granted');
        equal(parsed.patterns.channels['^hall-.*$'].write, false, 'not granted');
        equal(parsed.meta, { level: 3 }, 'meta');
        const guest = connect('guest', {}, target);
        equal((await refused(guest.publish({ channel: 'room', message: 1 }))).status, 403, 'without token');
        guest.setToken(token);
        await guest.publish({ channel: 'room', message: 1 });
        const heard = listen(guest);
        guest.subscribe({ channels: ['room', 'hall-1'] });
        await connected(heard);
        await guest.publish({ channel: 'room', message: 'with token' });
        await until(() => heard.messages.length, 'message');
        equal((await refused(guest.publish({ channel: 'hall-1', message: 1 }))).status, 403, 'read only');
        guest.unsubscribeAll();
        if (!server) return;
        await server.revokeToken(token);
        const revoked = await refused(guest.publish({ channel: 'room', message: 1 }));
        if (!revoked.text.includes('Token is revoked')) throw new Error(revoked.text);
      },
    };
    return { all, close: () => clients.forEach((client) => client.destroy(true)) };
  }

  async function run(PubNub, options) {
    const results = {};
    const { all, close } = steps(PubNub, options);
    for (const [name, step] of Object.entries(all)) {
      try {
        await step();
        results[name] = 'ok';
      } catch (error) {
        results[name] = String((error && error.stack) || error) + (error.status ? JSON.stringify(error.status) : '');
      }
    }
    close();
    return results;
  }

  root.runSuite = run;
  if (typeof module !== 'undefined') module.exports = run;
})(typeof window === 'undefined' ? globalThis : window);
