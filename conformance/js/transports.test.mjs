// The JavaScript client over its other transports: the same scenarios over each of them, against one server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Centrifuge } from "centrifuge";
import { Centrifuge as ProtobufCentrifuge } from "centrifuge/build/protobuf";
import WebSocket from "ws";
import { api, connected, env, fresh, next, now, pass, received, server, subscribed, token, within } from "./harness.mjs";

const limits = { timeout: 60_000 };
const codeOf = (promise) => promise.then(() => assert.fail("an error was expected"), (error) => error.code);
const http = env.url.replace(/^ws/, "http").replace(/\/connection\/websocket$/, "");

/** What the client wants of an EventSource, which Node.js does not have: events as they come, and an end. */
class Events {
  constructor(url) {
    this.aborted = new AbortController();
    this.run(url).catch((error) => this.aborted.signal.aborted || this.onerror?.(error));
  }
  async run(url) {
    const response = await fetch(url, { signal: this.aborted.signal, headers: { accept: "text/event-stream" } });
    assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
    this.onopen?.({});
    let text = "";
    for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
      text += bytes;
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        const [, data] = text.slice(0, end).match(/^(?:\r\n)?data: (.*)$/);
        this.onmessage?.({ data });
      }
    }
    this.onerror?.(new Error("the stream has ended"));
  }
  close() {
    this.aborted.abort();
  }
}

/** Name → how a client is made, and what it calls its transport. */
const transports = {
  "websocket": (options) => new Centrifuge(env.url, { websocket: WebSocket, ...options }),
  "websocket protobuf": (options) => new ProtobufCentrifuge(env.url, { websocket: WebSocket, ...options }),
  "http_stream": (options) => streaming(Centrifuge, "http_stream", "/connection/http_stream", options),
  "http_stream protobuf": (options) => streaming(ProtobufCentrifuge, "http_stream", "/connection/http_stream", options),
  "sse": (options) => streaming(Centrifuge, "sse", "/connection/sse", options),
};

function streaming(Client, transport, path, options) {
  const endpoints = [{ transport, endpoint: http + path }];
  return new Client(endpoints, { emulationEndpoint: `${http}/emulation`, eventsource: Events, ...options });
}

for (const [name, make] of Object.entries(transports)) {
  const scenario = (what, body) => test(`${name}: ${what}`, limits, body);
  const isProtobuf = name.endsWith("protobuf");
  /** JSON documents travel as bytes in protobuf. */
  const data = (value) => (isProtobuf ? new TextEncoder().encode(JSON.stringify(value)) : value);
  const value = (some) => (isProtobuf ? JSON.parse(new TextDecoder().decode(some)) : some);
  const values = async (subscription, count) => (await received(subscription, count)).map(value);
  const newClient = (t, user = "ada", options = {}) => {
    const defaults = { token: token({ sub: user }), minReconnectDelay: 50, maxReconnectDelay: 400, timeout: 5000 };
    const client = make({ ...defaults, ...options });
    client.on("error", ({ error, type }) => t.diagnostic?.(`${type} error ${error.code} ${error.message}`));
    t.after(() => client.disconnect());
    return client;
  };

  scenario("connects with a token", async (t) => {
    const { client, transport } = await connected(newClient(t));
    assert.match(client, /^[0-9a-f-]{36}$/);
    assert.equal(transport, name.split(" ")[0]);
  });

  scenario("refuses a token with a wrong signature for good (3500)", async (t) => {
    const client = newClient(t, "ada", { token: token({ sub: "ada" }, "some other secret of more than 32 bytes") });
    const ended = next(client, "disconnected");
    client.connect();
    assert.equal((await ended).code, 3500);
  });

  scenario("an expired token makes the client fetch a new one", async (t) => {
    let fetched = 0;
    const getToken = async () => ((fetched += 1), token({ sub: "ada" }));
    await connected(newClient(t, "ada", { token: token({ sub: "ada", exp: now() - 60 }), getToken }));
    assert.equal(fetched, 1);
  });

  scenario("a connection token is renewed before it expires", async (t) => {
    const lost = [];
    const client = newClient(t, "ada", { token: "", getToken: async () => token({ sub: "ada", exp: now() + 3 }) });
    await connected(client);
    client.on("connecting", (context) => lost.push(context));
    await pass(8500);
    assert.deepEqual([client.state, lost], ["connected", []]);
  });

  scenario("two clients hear each other and the server API, in order", async (t) => {
    const [ada, bob] = [newClient(t), newClient(t, "bob")];
    await Promise.all([connected(ada), connected(bob)]);
    const channel = fresh("chat");
    const [chatOfAda, chatOfBob] = [await subscribed(ada, channel), await subscribed(bob, channel)];
    for (let i = 0; i < 20; i += 1) await chatOfAda.publish(data({ i, text: "größer ✓" }));
    await api("publish", { channel, data: "from the back end" });
    const wanted = [...Array(20).keys()].map((i) => ({ i, text: "größer ✓" })).concat("from the back end");
    for (const chat of [chatOfAda, chatOfBob]) assert.deepEqual(await values(chat, 21), wanted);
  });

  scenario("commands sent without waiting are all answered", async (t) => {
    const client = newClient(t);
    await connected(client);
    const chat = await subscribed(client, fresh("chat"));
    await Promise.all([...Array(40).keys()].map((i) => chat.publish(data(i))));
    assert.equal((await received(chat, 40)).length, 40);
    assert.equal(await codeOf(client.rpc("anything", data({}))), 108);
  });

  scenario("history and presence are answered, and errors are (103, 102)", async (t) => {
    const client = newClient(t);
    await connected(client);
    const chat = await subscribed(client, fresh("chat"));
    for (let i = 0; i < 5; i += 1) await chat.publish(data(i));
    const { publications, offset } = await chat.history({ limit: 3 });
    assert.deepEqual([publications.map((p) => value(p.data)), offset], [[0, 1, 2], 5]);
    const { clients } = await chat.presence();
    assert.equal(Object.keys(clients).length, 1);
    assert.equal(await codeOf(client.publish("news", data(1))), 103);
    const nowhere = client.newSubscription(fresh("nowhere"));
    const ended = next(nowhere, "unsubscribed");
    nowhere.subscribe();
    assert.equal((await ended).code, 102);
  });

  scenario("unsubscribed means unsubscribed, and subscribing again works", async (t) => {
    const client = newClient(t);
    await connected(client);
    const chat = await subscribed(client, fresh("chat"));
    chat.unsubscribe();
    await api("publish", { channel: chat.channel, data: "unheard" });
    const again = next(chat, "subscribed");
    chat.subscribe();
    await again;
    const heard = next(chat, "publication", (publication) => value(publication.data) === "heard");
    await api("publish", { channel: chat.channel, data: "heard" });
    await heard;
  });

  scenario("presence forgets a client that went without a word, within two seconds", async (t) => {
    const [watcher, client] = [newClient(t, "watcher"), newClient(t)];
    await Promise.all([connected(watcher), connected(client)]);
    const channel = fresh("chat");
    const chat = await subscribed(watcher, channel);
    await subscribed(client, channel);
    const left = within("leave", new Promise((resolve) => chat.on("leave", resolve)), 2000);
    client.disconnect();
    assert.equal((await left).info.user, "ada");
    assert.equal(Object.keys((await chat.presence()).clients).length, 1);
  });

  scenario("what was missed while the connection was down arrives exactly once, in order", async (t) => {
    const client = newClient(t);
    await connected(client);
    const chat = await subscribed(client, fresh("chat"));
    await api("publish", { channel: chat.channel, data: 1 });
    await received(chat, 1);
    client.disconnect();
    for (const missed of [2, 3, 4]) await api("publish", { channel: chat.channel, data: missed });
    const back = next(chat, "subscribed");
    client.connect();
    const { wasRecovering, recovered } = await back;
    assert.deepEqual([wasRecovering, recovered], [true, true]);
    await api("publish", { channel: chat.channel, data: 5 });
    assert.deepEqual(await values(chat, 5), [1, 2, 3, 4, 5]);
  });

  scenario("a token for a private channel lets in, one for another ends the connection (103, 3500)", async (t) => {
    const client = newClient(t);
    await connected(client);
    const channel = `$secret-${fresh("")}`.replaceAll(":", "-");
    const without = client.newSubscription(channel);
    const refused = next(without, "unsubscribed");
    without.subscribe();
    assert.equal((await refused).code, 103);
    client.removeSubscription(without);
    const chat = await subscribed(client, channel, { token: token({ sub: "ada", channel }) });
    await api("publish", { channel, data: "heard" });
    assert.deepEqual(await values(chat, 1), ["heard"]);
    chat.unsubscribe();
    client.removeSubscription(chat);
    const ended = next(client, "disconnected");
    client.newSubscription(channel, { token: token({ sub: "bob", channel }) }).subscribe();
    assert.equal((await ended).code, 3500);
  });

  scenario("a subscription token is renewed before it expires, and an expired one renews nothing (109)", async (t) => {
    const client = newClient(t);
    await connected(client);
    const [renewed, ended] = ["renewed", "ended"].map((what) => `$${what}-${fresh("")}`.replaceAll(":", "-"));
    let fetched = 0;
    const getToken = async () => ((fetched += 1), token({ sub: "ada", channel: renewed, exp: now() + 3 }));
    const going = await subscribed(client, renewed, { getToken });
    const stopping = await subscribed(client, ended, {
      token: token({ sub: "ada", channel: ended, exp: now() + 2 }),
      getToken: async () => token({ sub: "ada", channel: ended, exp: now() - 60 }),
    });
    const lost = [];
    going.on("subscribing", (context) => lost.push(context));
    assert.equal((await next(stopping, "unsubscribed")).code, 109);
    await pass(3500);
    assert.deepEqual([going.state, lost], ["subscribed", []]);
    assert.ok(fetched >= 2, `fetched ${fetched} tokens`);
  });

  scenario("history is read page by page, forward and backward, and a lost position is said to be (112)", async (t) => {
    const client = newClient(t);
    await connected(client);
    const chat = await subscribed(client, fresh("chat"));
    const all = [...Array(7).keys()].map((i) => `größer ${i}`);
    for (const some of all) await chat.publish(data(some));
    const read = async (options) => {
      const seen = [];
      for (let since; ; ) {
        const page = await chat.history({ limit: 3, ...options, ...(since && { since }) });
        assert.equal(page.offset, 7);
        seen.push(...page.publications.map((publication) => value(publication.data)));
        if (page.publications.length < 3) return [seen, page.epoch];
        since = { offset: page.publications.at(-1).offset, epoch: page.epoch };
      }
    };
    const [forward, epoch] = await read({});
    const [backward] = await read({ reverse: true });
    assert.deepEqual([forward, backward], [all, all.toReversed()]);
    assert.equal((await chat.history({ limit: 0 })).publications.length, 0);
    assert.equal(await codeOf(chat.history({ limit: 1, since: { offset: 1, epoch: `${epoch}x` } })), 112);
  });

  scenario("deltas are whole again at the client, also where they cut between letters", async (t) => {
    const client = newClient(t);
    await connected(client);
    const channel = fresh("delta");
    const kinds = [];
    const chat = client.newSubscription(channel, { delta: "fossil" });
    // Whether a publication came whole or as a delta is nobody's business but this scenario's.
    const handle = chat._handlePublication;
    chat._handlePublication = function (publication) {
      kinds.push(publication.delta === true);
      return handle.call(this, publication);
    };
    chat.received = [];
    chat.on("publication", (publication) => chat.received.push(publication.data));
    const begun = next(chat, "subscribed");
    chat.subscribe();
    await begun;
    const text = (change) => ({ text: `${"größer ✓ 🦀 ".repeat(20)}${change}${"ñandú – ".repeat(20)}` });
    const wanted = ["ä", "ö", "🦀", "ü!"].map(text);
    for (const some of wanted) await api("publish", { channel, data: some });
    assert.deepEqual(await values(chat, 4), wanted);
    assert.deepEqual(kinds, [false, true, true, true]);
    // What was missed comes as deltas of each other, too, and what follows builds on it.
    client.disconnect();
    const missed = ["1", "2"].map(text);
    for (const some of missed) await api("publish", { channel, data: some });
    const back = next(chat, "subscribed");
    client.connect();
    assert.equal((await back).recovered, true);
    const after = ["3", "4"].map(text);
    for (const some of after) await api("publish", { channel, data: some });
    assert.deepEqual(await values(chat, 8), [...wanted, ...missed, ...after]);
    assert.ok(kinds.slice(4).filter((isDelta) => isDelta).length >= 2, `${kinds}`);
  });

  scenario("the server subscribes a client by its token and by a call, and takes it back", async (t) => {
    const [given, called] = [fresh("chat"), fresh("chat")];
    const user = `served-over-${name}`;
    const client = newClient(t, user, { token: token({ sub: user, channels: [given] }) });
    const first = next(client, "subscribed");
    const heard = [];
    client.on("publication", ({ channel, data: some }) => heard.push([channel, value(some)]));
    await connected(client);
    assert.equal((await first).channel, given);
    const second = next(client, "subscribed", ({ channel }) => channel === called);
    await api("subscribe", { user, channel: called });
    await second;
    for (const channel of [given, called]) await api("publish", { channel, data: `to ${channel}` });
    await client.publish(given, data("from here"));
    const ended = next(client, "unsubscribed", ({ channel }) => channel === called);
    await api("unsubscribe", { user, channel: called });
    await ended;
    assert.deepEqual(heard, [[given, `to ${given}`], [called, `to ${called}`], [given, "from here"]]);
  });

  scenario("a call that the server itself answers is answered", async (t) => {
    const client = newClient(t);
    await connected(client);
    const { data: answer } = await client.rpc("ping", data({}));
    assert.deepEqual(value(answer), {});
  });

  scenario("pings are answered and keep the connection", async (t) => {
    const client = newClient(t);
    const lost = [];
    await connected(client);
    client.on("connecting", (context) => lost.push(context));
    await pass(8500);
    assert.deepEqual([client.state, lost], ["connected", []]);
  });

  scenario("the server API ends a connection for good (3503)", async (t) => {
    const client = newClient(t, `user-of-${name}`);
    await connected(client);
    const ended = next(client, "disconnected");
    await api("disconnect", { user: `user-of-${name}` });
    assert.equal((await ended).code, 3503);
  });

  scenario("a stopping server says so (3001), and the client comes back by itself", async (t) => {
    const client = newClient(t);
    await connected(client);
    const chat = await subscribed(client, fresh("chat"));
    const told = next(client, "connecting");
    const back = within("new subscription", new Promise((resolve) => chat.on("subscribed", resolve)), 15_000);
    assert.equal((await server("stop")).exit_code, 0);
    assert.equal((await told).code, 3001);
    await server("start");
    await back;
    await api("publish", { channel: chat.channel, data: "after" });
    assert.deepEqual(await values(chat, 1), ["after"]);
  });
}

/** A client that only listens: no library, what the platform has. Pushes are handed to `on`, and the end as `{ closed }`. */
const listeners = {
  "uni_websocket": (request, on) => listenOnWebSocket("", on, (socket) => socket.send(JSON.stringify(request))),
  "uni_websocket by address": (request, on) => listenOnWebSocket(`?${inAddress(request)}`, on, () => {}),
  "uni_sse": (request, on) => {
    const events = new Events(`${http}/connection/uni_sse?${inAddress(request)}`);
    events.onmessage = ({ data }) => on(JSON.parse(data));
    events.onerror = () => on({ closed: true });
    return () => events.close();
  },
  "uni_http_stream": (request, on) => {
    const aborted = new AbortController();
    listenOnLines(request, on, aborted.signal).catch((error) => aborted.signal.aborted || on({ closed: error }));
    return () => aborted.abort();
  },
};

const inAddress = (request) => new URLSearchParams({ cf_connect: JSON.stringify(request) });

function listenOnWebSocket(query, on, begin) {
  const socket = new WebSocket(`${http.replace(/^http/, "ws")}/connection/uni_websocket${query}`);
  socket.on("open", () => begin(socket));
  socket.on("message", (text) => on(JSON.parse(text)));
  socket.on("close", (code) => on({ closed: code }));
  return () => socket.terminate();
}

async function listenOnLines(request, on, signal) {
  const url = `${http}/connection/uni_http_stream`;
  const response = await fetch(url, { method: "POST", body: JSON.stringify(request), signal });
  assert.equal(response.status, 200);
  let text = "";
  for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
    text += bytes;
    for (let end; (end = text.indexOf("\n")) >= 0; text = text.slice(end + 1)) on(JSON.parse(text.slice(0, end)));
  }
  on({ closed: true });
}

for (const [name, listen] of Object.entries(listeners)) {
  const scenario = (what, body) => test(`${name}: ${what}`, limits, body);
  /** Opens a listener; `next(wanted)` is the next push that is wanted. */
  const open = (t, request) => {
    const [heard, waiting] = [[], []];
    const close = listen(request, (push) => {
      const at = waiting.findIndex(({ wanted }) => wanted(push));
      if (at >= 0) waiting.splice(at, 1)[0].resolve(push);
      else heard.push(push);
    });
    t.after(close);
    const next = (what, wanted) => {
      const at = heard.findIndex(wanted);
      if (at >= 0) return heard.splice(at, 1)[0];
      return within(what, new Promise((resolve) => waiting.push({ wanted, resolve })));
    };
    return { close, next, connected: () => next("connect push", (push) => push.connect) };
  };
  const isPing = (push) => Object.keys(push).length === 0;

  scenario("hears what it wished for and may have, and pings it need not answer", async (t) => {
    const channel = fresh("chat");
    const listener = open(t, { token: token({ sub: "ada" }), subs: { [channel]: {}, "nowhere:x": {} } });
    const { connect } = await listener.connected();
    assert.match(connect.client, /^[0-9a-f-]{36}$/);
    assert.deepEqual([Object.keys(connect.subs), connect.pong], [[channel], undefined]);
    for (const data of ["größer ✓", 2]) await api("publish", { channel, data });
    const heard = [];
    for (const _ of [1, 2]) heard.push((await listener.next("publication", (push) => push.pub)).pub.data);
    assert.deepEqual(heard, ["größer ✓", 2]);
    for (const _ of [1, 2]) await listener.next("ping", isPing);
  });

  scenario("coming back, it gets what it missed", async (t) => {
    const channel = fresh("chat");
    const request = (position) => ({ token: token({ sub: "ada" }), subs: { [channel]: position } });
    await api("publish", { channel, data: 1 });
    const first = open(t, request({}));
    const { offset, epoch } = (await first.connected()).connect.subs[channel];
    first.close();
    for (const data of [2, 3]) await api("publish", { channel, data });
    const { connect } = await open(t, request({ recover: true, offset, epoch })).connected();
    const { recovered, publications } = connect.subs[channel];
    assert.deepEqual([recovered, publications.map(({ data }) => data)], [true, [2, 3]]);
  });

  scenario("is told why it ends (3503, 3500)", async (t) => {
    const user = `listener-${name}`;
    const listener = open(t, { token: token({ sub: user }) });
    await listener.connected();
    await api("disconnect", { user });
    assert.equal((await listener.next("reason", (push) => push.disconnect)).disconnect.code, 3503);
    const { closed } = await listener.next("end", (push) => push.closed);
    if (name.startsWith("uni_websocket")) assert.equal(closed, 3503);
    const stranger = open(t, { token: "false" });
    assert.equal((await stranger.next("reason", (push) => push.disconnect)).disconnect.code, 3500);
  });
}
