// What the scenarios share: clients that close themselves, tokens, events as promises, and the server's own door.
import { Centrifuge } from "centrifuge";
import { createHmac, randomUUID } from "node:crypto";
import WebSocket from "ws";

/** Where the driver (../run) has put the server, and how to ask the driver to stop and start it. */
export const env = {
  url: required("BOWLINE_WS_URL"),
  apiUrl: required("BOWLINE_API_URL"),
  apiKey: required("BOWLINE_API_KEY"),
  secret: required("BOWLINE_TOKEN_SECRET"),
  control: required("BOWLINE_CONTROL_URL"),
};

/** No scenario waits longer than this for any one thing, in milliseconds. */
const PATIENCE = 20_000;

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: start this with conformance/run`);
  return value;
}

/** Signs a token with the server's secret, or with another one. */
export function token(claims, secret = env.secret) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

export const now = () => Math.floor(Date.now() / 1000);

/** A channel nobody used before. */
export const fresh = (namespace) => `${namespace}:${randomUUID()}`;

/**
 * A client that ends with its test. `sockets` collects the WebSockets it opened, so that a test can cut one.
 */
export function newClient(t, user = "ada", options = {}) {
  const sockets = [];
  class Recorded extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets.push(this);
    }
  }
  const client = new Centrifuge(env.url, {
    token: token({ sub: user }),
    websocket: Recorded,
    minReconnectDelay: 50,
    maxReconnectDelay: 400,
    timeout: PATIENCE,
    ...options,
  });
  client.sockets = sockets;
  // What the client does is only told when the test fails.
  client.on("error", ({ error, type }) => t.diagnostic?.(`client of ${user}: ${type} error ${error.code} ${error.message}`));
  t.after(() => client.disconnect());
  return client;
}

/** Resolves with the first event that satisfies the predicate. Call it before what causes the event. */
export function next(emitter, event, predicate = () => true) {
  return within(
    `event ${event}`,
    new Promise((resolve) => {
      const take = (context) => {
        if (!predicate(context)) return;
        emitter.removeListener(event, take);
        resolve(context);
      };
      emitter.on(event, take);
    }),
  );
}

/** Rejects if the promise takes longer than the patience. */
export async function within(what, promise, milliseconds = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Lets time pass. For showing that something does *not* happen; what does happen is awaited by its event. */
export const pass = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function connected(client) {
  const done = next(client, "connected");
  client.connect();
  return done;
}

export async function subscribed(client, channel, options = {}) {
  const subscription = client.newSubscription(channel, options);
  subscription.received = [];
  subscription.on("publication", ({ data }) => subscription.received.push(data));
  const done = next(subscription, "subscribed");
  subscription.subscribe();
  subscription.first = await done;
  return subscription;
}

/** Waits until the subscription has received this many publications in all. */
export async function received(subscription, count) {
  if (subscription.received.length < count) {
    await next(subscription, "publication", () => subscription.received.length >= count);
  }
  return subscription.received;
}

/** Calls the server API and gives the result; an API error is thrown. */
export async function api(method, body) {
  const response = await fetch(`${env.apiUrl}/${method}`, {
    method: "POST",
    headers: { "X-API-Key": env.apiKey, "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (response.status !== 200) throw new Error(`${method}: HTTP ${response.status} ${await response.text()}`);
  const { result, error } = await response.json();
  if (error) throw Object.assign(new Error(`${method}: ${error.code} ${error.message}`), error);
  return result;
}

/** Asks the driver to `stop` or `start` the server; resolves when it has happened. */
export async function server(action) {
  const response = await fetch(`${env.control}/${action}`, { method: "POST", signal: AbortSignal.timeout(30_000) });
  if (response.status !== 200) throw new Error(`the driver could not ${action} the server: ${await response.text()}`);
  return response.json();
}
