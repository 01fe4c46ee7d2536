// The demo chat served by `bowline serve --dev`.
//
// `Connection` speaks the client protocol (JSON over one WebSocket) for a single channel and keeps itself connected;
// it knows nothing of the page. The view below it turns its events into elements and never sets HTML, only text.
//
// What a message's data looks like is this page's own choice: {nick, text, sent} is a line of chat, {nick} alone
// announces a name. Visitors are anonymous to the server, so names travel in the data and are tied to the connection
// id which the server adds to each publication. Data of any other shape is shown as JSON.
"use strict";

/** How many past publications to ask for when the page opens. */
const HISTORY_LIMIT = 100;
/** Lines kept in the page; the oldest leave first. */
const MAX_LINES = 500;
/** Names and offsets remembered, for the same reason. */
const MAX_REMEMBERED = 2000;
/** People listed by name; the rest is a number. */
const MAX_PEOPLE = 100;
/** Longest wait for the answer to one command, in milliseconds. */
const COMMAND_TIMEOUT = 5000;
/** Reconnect delays grow from the first to the second bound (milliseconds) and are drawn at random below it. */
const BACKOFF = { first: 500, longest: 20000 };
/** Slack on top of the announced ping interval before a silent connection counts as lost, in milliseconds. */
const PING_SLACK = 10000;

/**
 * One channel over one connection that reconnects by itself.
 *
 * Events (`on<Name>` properties, all optional):
 *   onState({state, code, reason, retryAt})  "connecting" | "connected" | "waiting" | "failed"
 *   onSubscribed({fresh, lost})  fresh: ask for history; lost: a gap could not be filled
 *   onPublication(pub)           live or recovered; in offset order, each offset once
 *   onPresence(Map)              client id -> info; the whole truth
 *   onJoin(info), onLeave(info)
 */
class Connection {
  constructor(url, channel) {
    this.url = url;
    this.channel = channel;
    this.client = null;
    this.socket = null;
    this.attempts = 0;
    this.nextId = 1;
    this.pending = new Map();
    /** Where the stream stands for us: {epoch, offset} of the last publication handed over. */
    this.position = null;
    this.retryTimer = 0;
    this.silenceTimer = 0;
    this.silence = 0;
  }

  /** Connects now, cutting short any wait. */
  open() {
    clearTimeout(this.retryTimer);
    if (this.socket) return;
    this.onState?.({ state: "connecting" });
    const socket = new WebSocket(this.url);
    this.socket = socket;
    // Covers the handshake until the connect answer brings the real ping interval.
    this.#expectFrameWithin(COMMAND_TIMEOUT);
    // Events of a socket that was already given up are not ours any more.
    socket.onopen = () => socket === this.socket && this.#establish().catch((error) => socket === this.socket && this.#refused(error));
    socket.onmessage = (event) => socket === this.socket && this.#read(event.data);
    socket.onclose = (event) => socket === this.socket && this.#closed(event.code, event.reason);
  }

  publish(data) {
    return this.#command("publish", { channel: this.channel, data });
  }

  /** Asks for the latest stored publications: {epoch, publications}, oldest first. */
  async loadHistory() {
    const { epoch, publications } = await this.#command("history", {
      channel: this.channel,
      limit: HISTORY_LIMIT,
      reverse: true,
    });
    return { epoch, publications: publications.reverse() };
  }

  refreshPresence() {
    return this.#command("presence", { channel: this.channel }, ({ presence }) =>
      this.onPresence?.(new Map(Object.entries(presence))),
    );
  }

  async #establish() {
    const connected = await this.#command("connect", { name: "demo-page" });
    this.client = connected.client;
    this.answersPings = connected.pong === true;
    this.silence = connected.ping ? connected.ping * 1000 + PING_SLACK : 0;
    this.#expectFrameWithin(this.silence);

    const request = { channel: this.channel, positioned: true, recoverable: true, join_leave: true };
    const resumed = this.position !== null;
    if (resumed) Object.assign(request, { recover: true, ...this.position });
    await this.#command("subscribe", request, (subscribed) => this.#subscribed(subscribed, resumed));
  }

  #subscribed(subscribed, resumed) {
    this.attempts = 0;
    const lost = resumed && subscribed.recovered !== true;
    // Recovered, we stand where we stood and the missed publications follow; otherwise we start at today's top.
    if (!resumed || lost) {
      const tracked = subscribed.recoverable || subscribed.positioned;
      this.position = tracked ? { epoch: subscribed.epoch ?? "", offset: subscribed.offset ?? 0 } : null;
    }
    this.onState?.({ state: "connected" });
    this.onSubscribed?.({ fresh: !resumed || lost, lost });
    for (const pub of subscribed.publications ?? []) this.#deliver(pub);
    // Presence is a side dish: without it (not kept, not allowed) the chat still works.
    this.refreshPresence().catch(() => {});
  }

  #refused(error) {
    // 100, 109, 111 and local failures (no code) may pass; anything else would only be refused again.
    const passes = error.code === undefined || error.temporary || error.code === 109;
    this.#giveUpSocket();
    if (passes) this.#retryLater(error.code, error.message);
    else this.onState?.({ state: "failed", code: error.code, reason: error.message });
  }

  /**
   * Sends a command; its result is handed to `take` and then to whoever awaits the promise. One frame may hold the
   * answer and the pushes that follow it: `take` runs before they are read, the awaiting code only after.
   */
  #command(name, request, take = (result) => result) {
    const socket = this.socket;
    if (socket?.readyState !== WebSocket.OPEN) return Promise.reject(new Error("not connected"));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(id);
        reject(new Error(`no answer to ${name}`));
      }, COMMAND_TIMEOUT);
      this.pending.set(id, { name, take, resolve, reject, timer });
      socket.send(JSON.stringify({ id, [name]: request }));
    });
  }

  #read(frame) {
    this.#expectFrameWithin(this.silence);
    for (const line of frame.split("\n")) {
      if (line.trim() === "") continue;
      const reply = JSON.parse(line);
      if (reply.id) this.#answer(reply);
      else if (reply.push) this.#push(reply.push);
      else this.#ping();
    }
  }

  #answer(reply) {
    const command = this.pending.get(reply.id);
    if (!command) return;
    this.pending.delete(reply.id);
    clearTimeout(command.timer);
    if (reply.error) command.reject(Object.assign(new Error(reply.error.message), reply.error));
    else command.resolve(command.take(reply[command.name] ?? {}));
  }

  #push(push) {
    if (push.channel !== this.channel) return;
    if (push.pub) this.#deliver(push.pub);
    else if (push.join) this.onJoin?.(push.join.info);
    else if (push.leave) this.onLeave?.(push.leave.info);
    else if (push.unsubscribe) {
      const { code, reason } = push.unsubscribe;
      // From 2500 on the server asks us to subscribe anew; reconnecting is the simplest way that recovers the gap.
      this.#giveUpSocket();
      if (code >= 2500) this.#retryLater(code, reason);
      else this.onState?.({ state: "failed", code, reason });
    }
  }

  #ping() {
    if (this.answersPings) this.socket.send("{}");
    // A join or leave that raced with the presence answer is put right here.
    this.refreshPresence().catch(() => {});
  }

  #deliver(pub) {
    if (this.position && pub.offset) {
      if (pub.offset <= this.position.offset) return;
      this.position.offset = pub.offset;
    }
    this.onPublication?.(pub);
  }

  #expectFrameWithin(milliseconds) {
    clearTimeout(this.silenceTimer);
    if (milliseconds === 0) return;
    this.silenceTimer = setTimeout(() => {
      this.#giveUpSocket();
      this.#retryLater(undefined, "no sign of life");
    }, milliseconds);
  }

  #closed(code, reason) {
    this.#giveUpSocket();
    const final = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000) || code === 1009;
    if (final) this.onState?.({ state: "failed", code, reason });
    else this.#retryLater(code, reason);
  }

  /** Leaves no trace of the socket: its events are ignored and the commands that wait for it fail. */
  #giveUpSocket() {
    clearTimeout(this.silenceTimer);
    const socket = this.socket;
    this.socket = null;
    this.silence = 0;
    for (const { reject, timer } of this.pending.values()) {
      clearTimeout(timer);
      reject(new Error("connection lost"));
    }
    this.pending.clear();
    socket?.close();
  }

  #retryLater(code, reason) {
    const bound = Math.min(BACKOFF.longest, BACKOFF.first * 2 ** this.attempts++);
    // Full jitter spreads the clients of a restarted server; the floor keeps the page from spinning.
    const delay = Math.max(200, Math.random() * bound);
    this.onState?.({ state: "waiting", code, reason, retryAt: Date.now() + delay });
    this.retryTimer = setTimeout(() => this.open(), delay);
  }
}

// ---------------------------------------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const view = {
  log: $("log"), empty: $("empty"), problem: $("problem"), composer: $("composer"), nick: $("nick"), text: $("text"),
  send: $("send"), state: $("state"), reconnect: $("reconnect"), people: $("people"), count: $("count"),
};

const channel = new URLSearchParams(location.search).get("channel") || "lobby";
const connection = new Connection(
  `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/connection/websocket`,
  channel,
);

/** Client id -> the name it last announced or wrote under. */
const names = new Map();
/** Connection ids this window has had: what they published is ours, also after a reload. */
const mine = new Set(JSON.parse(sessionStorage.getItem("clients") ?? "[]"));
/** "epoch offset" of the publications on the page. */
const drawn = new Set();
/** Live publications that wait until history is drawn; null when they need not. */
let behindHistory = null;
/** Client ids subscribed to the channel, as far as we know. */
let present = new Map();
let connected = false;
/** Author and time of the last line, to draw consecutive lines of one author together. */
let last = { author: null, at: 0 };

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Adds to a set or map in insertion order, dropping the oldest beyond the bound. */
function remember(collection, key, value) {
  if (collection instanceof Map) collection.set(key, value);
  else collection.add(key);
  if (collection.size > MAX_REMEMBERED) collection.delete(collection.keys().next().value);
}

function displayName(client) {
  return names.get(client) ?? `Guest ${client.slice(0, 4)}`;
}

function avatar(name) {
  const node = element("span", "avatar", [...name.trim()][0]?.toUpperCase() ?? "?");
  let hash = 0;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) >>> 0;
  node.style.setProperty("--hue", String((hash * 137) % 360));
  node.setAttribute("aria-hidden", "true");
  return node;
}

/** A span that follows the client's name, also when it is learnt or changed later. */
function nameOf(client) {
  const node = element("span", "", displayName(client));
  node.dataset.client = client;
  return node;
}

function learnName(client, name) {
  if (!client || typeof name !== "string" || name.trim() === "") return;
  const short = [...name.trim()].slice(0, 24).join("");
  if (names.get(client) === short) return;
  remember(names, client, short);
  for (const node of document.querySelectorAll(`[data-client="${CSS.escape(client)}"]`)) node.textContent = short;
  drawPeople();
}

function append(node) {
  const { log } = view;
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  view.empty.hidden = true;
  log.append(node);
  while (log.children.length > MAX_LINES + 1) view.empty.nextElementSibling.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function appendNote(...parts) {
  const node = element("li", "note fresh");
  node.append(...parts);
  last = { author: null, at: 0 };
  append(node);
  return node;
}

function appendMessage(pub, live) {
  const { data } = pub;
  const client = pub.info?.client;
  const isObject = data !== null && typeof data === "object";
  if (isObject) learnName(client, data.nick);
  if (client && isObject && typeof data.nick === "string" && data.text === undefined) return; // only announces a name

  const isText = isObject && typeof data.text === "string";
  const name = (isObject && typeof data.nick === "string" && data.nick.trim()) || (client ? displayName(client) : "Server API");
  const own = mine.has(client);
  const sent = new Date((isText && data.sent) || (live ? Date.now() : NaN));
  const at = sent.getTime();
  const author = client ?? `api:${name}`;
  // Lines of one author within two minutes share one heading.
  const follows = author === last.author && !(Math.abs(at - last.at) > 120_000);
  last = { author, at };

  const node = element("li", `message${own ? " mine" : ""}${follows ? " follow" : ""}${live ? " fresh" : ""}`);
  const picture = avatar(name);
  if (!client) {
    picture.classList.add("api");
    picture.textContent = "API";
  }
  const meta = element("div", "meta");
  meta.append(element("b", "", own ? "You" : name));
  if (!Number.isNaN(at)) {
    const time = element("time", "", sent.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    time.dateTime = sent.toISOString();
    meta.append(time);
  }
  const body = element("div", "body");
  body.append(meta, isText ? element("div", "text", data.text) : element("div", "text raw", JSON.stringify(data, null, 1)));
  node.append(picture, body);
  append(node);
}

function drawPeople() {
  const me = connection.client;
  const clients = [...present.keys()].sort((a, b) =>
    a === me ? -1 : b === me ? 1 : displayName(a).localeCompare(displayName(b)),
  );
  view.count.textContent = connected ? String(clients.length) : "–";
  view.people.classList.toggle("stale", !connected);
  view.people.replaceChildren(
    ...clients.slice(0, MAX_PEOPLE).map((client) => {
      const name = displayName(client);
      const node = element("li");
      node.append(avatar(name), element("span", "who", name));
      if (client === me) node.append(element("small", "", "you"));
      return node;
    }),
  );
  if (clients.length > MAX_PEOPLE) view.people.append(element("li", "", `and ${clients.length - MAX_PEOPLE} more`));
}

function drawState({ state, code, reason, retryAt }) {
  const wasConnected = connected;
  connected = state === "connected";
  view.state.dataset.state = state;
  view.reconnect.hidden = state === "connected" || state === "connecting";
  view.send.disabled = !connected;
  if (state === "connected") view.state.textContent = "Connected";
  if (state === "connecting") view.state.textContent = "Connecting…";
  if (state === "failed") view.state.textContent = "Disconnected";
  // No countdown: the pill is a live region, and a number that changes every second would be read aloud.
  if (state === "waiting") view.state.textContent = "Reconnecting…";
  const detail = [code, reason].filter((part) => part !== undefined && part !== "").join(" ");
  view.state.title = retryAt ? `${detail}; next try at ${new Date(retryAt).toLocaleTimeString()}` : detail;
  if (state === "failed") appendNote(`The server ended the connection: ${detail || "no reason given"}.`);
  else if (state === "waiting" && wasConnected) appendNote("Connection lost. Messages sent meanwhile will be fetched.");
  drawPeople();
}

function showProblem(text) {
  view.problem.textContent = text;
  view.problem.hidden = text === "";
}

connection.onState = drawState;
connection.onPublication = drawPublication;
connection.onPresence = (clients) => {
  present = clients;
  drawPeople();
};
connection.onJoin = (info) => {
  const known = present.has(info.client);
  present.set(info.client, info);
  drawPeople();
  if (!known && info.client !== connection.client) appendNote(nameOf(info.client), " joined");
};
connection.onLeave = (info) => {
  if (!present.delete(info.client)) return;
  drawPeople();
  if (info.client !== connection.client) appendNote(nameOf(info.client), " left");
};
connection.onSubscribed = ({ fresh, lost }) => {
  if (lost) appendNote("The server could not fill the gap: messages may be missing here.").classList.add("gap");
  remember(mine, connection.client);
  sessionStorage.setItem("clients", JSON.stringify([...mine].slice(-20)));
  if (fresh) loadHistory();
  announceName();
};

/** A live publication; while history is on its way it waits in line behind it. */
function drawPublication(pub) {
  if (behindHistory) behindHistory.push(pub);
  else appendOnce(pub, connection.position?.epoch, true);
}

/** Draws a publication unless history and live delivery brought it twice. */
function appendOnce(pub, epoch, live) {
  if (pub.offset) {
    const key = `${epoch} ${pub.offset}`;
    if (drawn.has(key)) return;
    remember(drawn, key);
  }
  appendMessage(pub, live);
}

/** Draws what the server still has of the time before we subscribed. */
async function loadHistory() {
  behindHistory = [];
  view.log.setAttribute("aria-busy", "true");
  try {
    const { epoch, publications } = await connection.loadHistory();
    for (const pub of publications) appendOnce(pub, epoch, false);
  } catch {
    // History is off or out of reach; live messages are all there is.
  }
  const waiting = behindHistory;
  behindHistory = null;
  waiting.forEach(drawPublication);
  view.log.removeAttribute("aria-busy");
  view.empty.hidden = view.log.querySelector(".message") !== null;
  view.log.scrollTop = view.log.scrollHeight;
}

function announceName() {
  if (view.nick.value.trim() === "") return;
  learnName(connection.client, view.nick.value);
  // A name nobody hears is no harm; the next message carries it again.
  connection.publish({ nick: view.nick.value.trim() }).catch(() => {});
}

view.composer.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = view.text.value.trim();
  const nick = view.nick.value.trim();
  if (text === "" || nick === "" || !connected) return;
  showProblem("");
  view.text.value = "";
  try {
    await connection.publish({ nick, text, sent: new Date().toISOString() });
  } catch (error) {
    view.text.value = view.text.value ? `${text} ${view.text.value}` : text;
    showProblem(`Not sent: ${error.message}. Your text is still there.`);
  }
  view.text.focus();
});

// The name is per window (session storage), so that two windows of one browser can be two people.
view.nick.value = sessionStorage.getItem("nick") ?? `Guest ${1000 + Math.floor(Math.random() * 9000)}`;
view.nick.addEventListener("change", () => {
  sessionStorage.setItem("nick", view.nick.value.trim());
  if (connected) announceName();
});
sessionStorage.setItem("nick", view.nick.value);

view.reconnect.addEventListener("click", () => connection.open());
addEventListener("online", () => connection.open());

// ---------------------------------------------------------------------------------------------------------------

/** What the server put into the page, or `otherwise` if it put nothing there. */
function fromServer(name, otherwise) {
  const value = document.querySelector(`meta[name="${name}"]`)?.content ?? "";
  return value === "" || value.startsWith("{{") ? otherwise : value;
}

/** Quotes a word for a POSIX shell where it needs quotes. */
function shellQuoted(word) {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", "'\\''")}'`;
}

const body = `{"channel": ${JSON.stringify(channel)},\n       "data": {"text": "Hello!"}}`;
const apiUrl = fromServer("bowline-api-url", `${location.origin}/api`).replace(/\/$/, "");
$("curl").textContent = [
  `curl ${shellQuoted(`${apiUrl}/publish`)}`,
  `-H ${shellQuoted(`X-API-Key: ${fromServer("bowline-dev-key", "<api key>")}`)}`,
  `-H 'Content-Type: application/json'`,
  `-d ${shellQuoted(body)}`,
].join(" \\\n  ");

$("copy").addEventListener("click", async () => {
  const button = $("copy");
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    button.textContent = "Copied";
  } catch {
    // No clipboard access: leave the command selected, one key press away from the clipboard.
    getSelection().selectAllChildren($("curl"));
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
});

const tasksUrl = fromServer("bowline-tasks-url", "");
if (tasksUrl) {
  $("tasks").href = tasksUrl;
  $("tasks").hidden = false;
}
$("channel").textContent = `# ${channel}`;
$("second").href = location.href;
document.title = `${channel} · Bowline demo chat`;

connection.open();
