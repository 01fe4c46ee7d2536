// The JavaScript client over WebSocket, one scenario after the other against one server.
import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { api, connected, env, fresh, newClient, next, now, pass, received, server, subscribed, token, within } from "./harness.mjs";

const limits = { timeout: 60_000 };
const scenario = (name, body) => test(name, limits, body);
const codeOf = (promise) => promise.then(() => assert.fail("an error was expected"), (error) => error.code);

scenario("connects with a token", async (t) => {
  const client = newClient(t);
  const { client: id, transport } = await connected(client);
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.equal(transport, "websocket");
});

scenario("refuses a token with a wrong signature for good (3500)", async (t) => {
  const client = newClient(t, "ada", { token: token({ sub: "ada" }, "some other secret of more than 32 bytes") });
  const ended = next(client, "disconnected");
  client.connect();
  assert.equal((await ended).code, 3500);
  await pass(1000);
  assert.equal(client.state, "disconnected");
  assert.equal(client.sockets.length, 1, "the client must not try again");
});

scenario("refuses a connection without a token", async (t) => {
  const client = newClient(t, "nobody", { token: "" });
  const ended = next(client, "disconnected");
  client.connect();
  assert.equal((await ended).code, 3501);
});

scenario("an expired token makes the client fetch a new one", async (t) => {
  let fetched = 0;
  const client = newClient(t, "ada", {
    token: token({ sub: "ada", exp: now() - 60 }),
    getToken: async () => {
      fetched += 1;
      return token({ sub: "ada" });
    },
  });
  await connected(client);
  assert.equal(fetched, 1);
});

scenario("a connection token is renewed before it expires, on the same connection", async (t) => {
  let fetched = 0;
  const client = newClient(t, "ada", {
    token: "",
    getToken: async () => {
      fetched += 1;
      return token({ sub: "ada", exp: now() + 3 });
    },
  });
  const ended = [];
  client.on("connecting", (context) => ended.push(context.code));
  await connected(client);
  await pass(6500);
  assert.equal(client.state, "connected");
  assert.deepEqual(ended, [0], "connected once and never lost the connection");
  assert.ok(fetched >= 2, `fetched ${fetched} tokens`);
});

scenario("a connection that does not renew its token is closed (3005)", async (t) => {
  const socket = await raw(t);
  socket.on("message", (frame) => String(frame).trim() === "{}" && socket.send("{}"));
  socket.send(JSON.stringify({ id: 1, connect: { token: token({ sub: "ada", exp: now() + 2 }) } }));
  assert.equal((await closed(socket)).code, 3005);
});

scenario("subscribes, publishes and receives its own publication", async (t) => {
  const client = newClient(t);
  const { client: id } = await connected(client);
  const chat = await subscribed(client, fresh("chat"));
  const publication = next(chat, "publication");
  await chat.publish({ text: "hello", deep: [1, { two: "äöü \n ☃" }] });
  const { data, info, offset } = await publication;
  assert.deepEqual(data, { text: "hello", deep: [1, { two: "äöü \n ☃" }] });
  assert.equal(info.client, id);
  assert.equal(info.user, "ada");
  assert.equal(offset, 1);
});

scenario("two clients hear each other, in order", async (t) => {
  const channel = fresh("chat");
  const [ada, bob] = [newClient(t, "ada"), newClient(t, "bob")];
  await Promise.all([connected(ada), connected(bob)]);
  const [hers, his] = await Promise.all([subscribed(ada, channel), subscribed(bob, channel)]);
  for (let i = 0; i < 20; i += 1) await (i % 2 ? hers : his).publish(i);
  const expected = [...Array(20).keys()];
  assert.deepEqual(await received(hers, 20), expected);
  assert.deepEqual(await received(his, 20), expected);
});

scenario("commands sent without waiting are all answered", async (t) => {
  const client = newClient(t);
  const channels = [...Array(20)].map(() => fresh("chat"));
  const subscriptions = channels.map((channel) => client.newSubscription(channel));
  const done = subscriptions.map((subscription) => next(subscription, "subscribed"));
  for (const subscription of subscriptions) subscription.subscribe();
  client.connect();
  await Promise.all(done);
  await Promise.all(subscriptions.map((subscription, i) => subscription.publish(i)));
  const stats = await Promise.all(subscriptions.map((subscription) => subscription.presenceStats()));
  assert.ok(stats.every(({ numClients }) => numClients === 1));
});

scenario("a publication from the server API arrives without a publisher", async (t) => {
  const client = newClient(t);
  await connected(client);
  const news = await subscribed(client, `news-${now()}`);
  const publication = next(news, "publication");
  assert.deepEqual(await api("publish", { channel: news.channel, data: { n: 1 } }), {});
  const { data, info, offset } = await publication;
  assert.deepEqual(data, { n: 1 });
  assert.equal(info, undefined);
  assert.equal(offset, undefined, "nothing is kept in this channel");
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
  await api("publish", { channel: chat.channel, data: "heard" });
  // The channel recovers: what was missed comes first, each once.
  assert.deepEqual(await received(chat, 2), ["unheard", "heard"]);
});

scenario("presence tells who is there", async (t) => {
  const channel = fresh("chat");
  const ada = newClient(t, "ada", { token: token({ sub: "ada", info: { name: "Ada" } }) });
  const [bob, bobsPhone] = [newClient(t, "bob"), newClient(t, "bob")];
  const ids = (await Promise.all([ada, bob, bobsPhone].map(connected))).map(({ client }) => client);
  const [chat] = await Promise.all([ada, bob, bobsPhone].map((client) => subscribed(client, channel)));
  const { clients } = await chat.presence();
  assert.deepEqual(Object.keys(clients).sort(), [...ids].sort());
  assert.equal(clients[ids[0]].user, "ada");
  assert.deepEqual(clients[ids[0]].connInfo, { name: "Ada" });
  const { numClients, numUsers } = await chat.presenceStats();
  assert.deepEqual([numClients, numUsers], [3, 2]);
});

scenario("presence forgets who has left", async (t) => {
  const channel = fresh("chat");
  const [ada, bob] = [newClient(t, "ada"), newClient(t, "bob")];
  await Promise.all([connected(ada), connected(bob)]);
  const [chat] = await Promise.all([subscribed(ada, channel), subscribed(bob, channel)]);
  const left = next(chat, "leave");
  bob.sockets.at(-1).terminate();
  bob.disconnect();
  assert.equal((await left).info.user, "bob");
  assert.equal((await chat.presenceStats()).numClients, 1);
});

scenario("history: forward, from a position, backward, and the top alone", async (t) => {
  const client = newClient(t);
  await connected(client);
  const chat = await subscribed(client, fresh("chat"));
  for (let i = 1; i <= 5; i += 1) await chat.publish({ i });
  const offsets = ({ publications }) => publications.map(({ offset }) => offset);

  const all = await chat.history({ limit: -1 });
  assert.deepEqual(all.publications.map(({ data }) => data.i), [1, 2, 3, 4, 5]);
  assert.equal(all.offset, 5);
  const { epoch } = all;
  assert.deepEqual(offsets(await chat.history({ limit: 2 })), [1, 2]);
  assert.deepEqual(offsets(await chat.history({ limit: 2, since: { offset: 2, epoch } })), [3, 4]);
  assert.deepEqual(offsets(await chat.history({ limit: 2, reverse: true })), [5, 4]);
  assert.deepEqual(offsets(await chat.history({ limit: 10, reverse: true, since: { offset: 3, epoch } })), [2, 1]);
  const top = await chat.history({ limit: 0 });
  assert.deepEqual([top.publications, top.offset, top.epoch], [[], 5, epoch]);
  assert.equal(await codeOf(chat.history({ limit: 1, since: { offset: 1, epoch: "of another life" } })), 112);
});

scenario("join and leave are told to those who are there", async (t) => {
  const channel = fresh("chat");
  const [ada, bob] = [newClient(t, "ada"), newClient(t, "bob")];
  const [, { client: bobsId }] = await Promise.all([connected(ada), connected(bob)]);
  const chat = await subscribed(ada, channel);
  const joined = next(chat, "join", ({ info }) => info.user === "bob");
  const left = next(chat, "leave", ({ info }) => info.user === "bob");
  const his = await subscribed(bob, channel);
  assert.equal((await joined).info.client, bobsId);
  his.unsubscribe();
  assert.equal((await left).info.client, bobsId);
});

scenario("publishing where it is not allowed is an error (103)", async (t) => {
  const client = newClient(t);
  await connected(client);
  const news = await subscribed(client, `news-${now()}`);
  assert.equal(await codeOf(news.publish("no")), 103);
  assert.equal(await codeOf(client.publish(fresh("chat"), "not a subscriber")), 103);
});

scenario("history and presence that are not kept or not allowed are errors (108, 103)", async (t) => {
  const client = newClient(t);
  await connected(client);
  const news = await subscribed(client, `news-${now()}`);
  assert.ok([103, 108].includes(await codeOf(news.history({ limit: 1 }))));
  assert.ok([103, 108].includes(await codeOf(news.presence())));
  assert.equal(await codeOf(client.history(fresh("chat"), { limit: 1 })), 103);
});

scenario("subscribing in an unknown namespace ends with its error (102)", async (t) => {
  const client = newClient(t);
  await connected(client);
  const subscription = client.newSubscription(fresh("nowhere"));
  const ended = next(subscription, "unsubscribed");
  subscription.subscribe();
  assert.equal((await ended).code, 102);
  assert.equal(client.state, "connected");
});

scenario("a private channel takes a token for exactly this channel", async (t) => {
  const client = newClient(t);
  await connected(client);
  const channel = `$secret-${now()}`;

  const without = client.newSubscription(channel);
  const refused = next(without, "unsubscribed");
  without.subscribe();
  assert.equal((await refused).code, 103);
  client.removeSubscription(without);

  const subscription = await subscribed(client, channel, { token: token({ sub: "ada", channel }) });
  assert.equal(subscription.state, "subscribed");
  subscription.unsubscribe();
  client.removeSubscription(subscription);

  const wrong = client.newSubscription(channel, { token: token({ sub: "ada", channel: "another" }) });
  const ended = next(client, "disconnected");
  wrong.subscribe();
  assert.equal((await ended).code, 3500);
});

scenario("a subscription token is renewed before it expires", async (t) => {
  const client = newClient(t);
  await connected(client);
  const channel = `$renewed-${now()}`;
  let fetched = 0;
  const subscription = await subscribed(client, channel, {
    getToken: async () => {
      fetched += 1;
      return token({ sub: "ada", channel, exp: now() + 3 });
    },
  });
  const lost = [];
  subscription.on("subscribing", (context) => lost.push(context.code));
  await pass(6500);
  assert.equal(subscription.state, "subscribed");
  assert.deepEqual(lost, []);
  assert.ok(fetched >= 2, `fetched ${fetched} tokens`);
});

scenario("a call that no handler takes is an error (108)", async (t) => {
  const client = newClient(t);
  await connected(client);
  assert.equal(await codeOf(client.rpc("anything", {})), 108);
});

scenario("pings are answered and keep the connection", async (t) => {
  const client = newClient(t);
  const lost = [];
  await connected(client);
  client.on("connecting", (context) => lost.push(context));
  let pings = 0;
  client.sockets.at(-1).on("message", (frame) => (pings += String(frame).trim() === "{}" ? 1 : 0));
  await pass(8500);
  assert.ok(pings >= 2, `${pings} pings within 8.5 s at an interval of 3 s`);
  assert.deepEqual(lost, []);
});

scenario("a ping without an answer closes the connection (3012)", async (t) => {
  const socket = await raw(t);
  socket.send(JSON.stringify({ id: 1, connect: { token: token({ sub: "mute" }) } }));
  assert.equal((await closed(socket)).code, 3012);
});

scenario("the first command must be connect (3501)", async (t) => {
  const socket = await raw(t);
  socket.send(JSON.stringify({ id: 1, subscribe: { channel: fresh("chat") } }));
  assert.equal((await closed(socket)).code, 3501);
});

scenario("a message above the size limit closes the connection for good (1009)", async (t) => {
  const client = newClient(t);
  await connected(client);
  const chat = await subscribed(client, fresh("chat"));
  // Below the limit of 65,536 bytes all is well.
  await chat.publish("x".repeat(60_000));
  const frame = within("close frame", new Promise((resolve) => client.sockets.at(-1).on("close", resolve)));
  const ended = next(client, "disconnected");
  chat.publish("x".repeat(70_000)).catch(() => {});
  assert.equal(await frame, 1009);
  // The client's own code for it: message size limit exceeded.
  assert.equal((await ended).code, 3);
});

scenario("what was missed while the connection was down arrives exactly once, in order", async (t) => {
  const client = newClient(t);
  await connected(client);
  const chat = await subscribed(client, fresh("chat"));
  await api("publish", { channel: chat.channel, data: 1 });
  await received(chat, 1);

  const lost = next(chat, "subscribing");
  const back = next(chat, "subscribed");
  client.sockets.at(-1).terminate();
  await lost;
  for (const data of [2, 3, 4]) await api("publish", { channel: chat.channel, data });
  const { wasRecovering, recovered } = await back;
  assert.deepEqual([wasRecovering, recovered], [true, true]);
  await api("publish", { channel: chat.channel, data: 5 });
  assert.deepEqual(await received(chat, 5), [1, 2, 3, 4, 5]);
});

scenario("publications during the reconnect are neither lost nor repeated", async (t) => {
  const client = newClient(t);
  await connected(client);
  const chat = await subscribed(client, fresh("chat"));
  const total = 60;
  const publishing = (async () => {
    for (let i = 0; i < total; i += 1) await api("publish", { channel: chat.channel, data: i });
  })();
  for (let cut = 0; cut < 3; cut += 1) {
    const back = next(chat, "subscribed");
    await received(chat, cut * 10 + 1);
    client.sockets.at(-1).terminate();
    await back;
  }
  await publishing;
  assert.deepEqual(await received(chat, total), [...Array(total).keys()]);
});

scenario("a client that fell out of the history is told so", async (t) => {
  const client = newClient(t);
  await connected(client);
  const short = await subscribed(client, fresh("short"));
  client.disconnect();
  for (let i = 0; i < 5; i += 1) await api("publish", { channel: short.channel, data: i });
  const back = next(short, "subscribed");
  client.connect();
  const { wasRecovering, recovered } = await back;
  assert.deepEqual([wasRecovering, recovered], [true, false]);
  await api("publish", { channel: short.channel, data: "live" });
  assert.deepEqual(await received(short, 1), ["live"]);
});

scenario("a stopping server says so (3001); clients come back by themselves and subscribe anew", async (t) => {
  const clients = [newClient(t, "ada"), newClient(t, "bob")];
  await Promise.all(clients.map(connected));
  const channel = fresh("chat");
  const chats = await Promise.all(clients.map((client) => subscribed(client, channel)));

  const told = clients.map((client) => next(client, "connecting"));
  const back = chats.map((chat) => within("new subscription", new Promise((resolve) => chat.on("subscribed", resolve)), 15_000));
  const { exit_code: exitCode } = await server("stop");
  assert.equal(exitCode, 0);
  for (const { code } of await Promise.all(told)) assert.equal(code, 3001);
  await server("start");
  await Promise.all(back);

  await api("publish", { channel, data: "after" });
  for (const chat of chats) assert.deepEqual(await received(chat, 1), ["after"]);
});

/** A bare WebSocket, for what a well-behaved client never does. */
async function raw(t) {
  const socket = new WebSocket(env.url);
  t.after(() => socket.terminate());
  await within("WebSocket", new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject)));
  return socket;
}

function closed(socket) {
  return within("close frame", new Promise((resolve) => socket.on("close", (code, reason) => resolve({ code, reason: String(reason) }))), 8000);
}
