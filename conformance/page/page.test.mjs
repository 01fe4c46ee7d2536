// The demo page of `bowline serve --dev` in a real browser: two windows chat with each other.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const url = process.env.BOWLINE_PAGE_URL;
const screens = process.env.BOWLINE_SCREENS;
const control = process.env.BOWLINE_CONTROL_URL;
const PATIENCE = 30_000;
const limits = { timeout: 120_000 };

let browser;
/** What the browser complained about; must stay empty but for connections refused while the server is down. */
const complaints = [];

before(async () => {
  mkdirSync(screens, { recursive: true });
  browser = await chromium.launch({
    executablePath: process.env.BOWLINE_CHROMIUM,
    timeout: 60_000,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
      "--disable-sync", "--no-first-run", "--disable-quic",
    ],
  });
});
after(() => browser?.close());

async function window(t, name, { width = 1200, height = 800, scheme = "light", path = "" } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("pageerror", (error) => complaints.push(`${name}: ${error}`));
  page.on("console", (message) => {
    const refused = message.text().includes("ERR_CONNECTION_REFUSED");
    if (message.type() === "error" && !refused) complaints.push(`${name}: ${message.text()}`);
  });
  await page.goto(url + path);
  await state(page, "Connected");
  await page.fill("#nick", name);
  await page.press("#nick", "Tab");
  return page;
}

const state = (page, text) => page.waitForFunction((wanted) => document.getElementById("state").textContent === wanted, text);
const heard = (page, text) => page.locator("#log .text", { hasText: text }).first().waitFor();
const present = (page, count) => page.waitForFunction((wanted) => document.getElementById("count").textContent === wanted, String(count));

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

const texts = (page) => page.locator("#log .text").allTextContents();

/** A channel of its own for each scenario. */
const room = (name) => `?channel=${name}-${Date.now()}`;

test("two windows chat both ways, see each other, and find the talk again after a reload", limits, async (t) => {
  const path = room("talk");
  const ada = await window(t, "Ada", { path });
  const bob = await window(t, "Bob", { path, width: 390, height: 844, scheme: "dark" });

  await present(ada, 2);
  await present(bob, 2);
  await ada.locator("#people .who", { hasText: "Bob" }).waitFor();
  await bob.locator("#people .who", { hasText: "Ada" }).waitFor();

  await say(ada, "Hello Bob");
  await heard(bob, "Hello Bob");
  await say(bob, "Hello Ada <script>alert(1)</script>");
  await heard(ada, "Hello Ada <script>alert(1)</script>");
  await ada.screenshot({ path: `${screens}/chat-desktop-light.png` });
  await bob.screenshot({ path: `${screens}/chat-phone-dark.png` });

  await bob.reload();
  await heard(bob, "Hello Bob");
  assert.deepEqual(await texts(bob), ["Hello Bob", "Hello Ada <script>alert(1)</script>"]);
  await bob.screenshot({ path: `${screens}/reloaded-phone-dark.png` });

  await bob.close();
  await present(ada, 1);
  await ada.locator("#log .note", { hasText: "Bob left" }).last().waitFor();
  assert.deepEqual(complaints, []);
});

test("the command shown on the page publishes to the page", limits, async (t) => {
  const page = await window(t, "Ada", { path: room("curl") });
  const command = await page.textContent("#curl");
  const [, endpoint] = command.match(/^curl (\S+)/);
  const [, key] = command.match(/X-API-Key: ([^']+)'/);
  const [, body] = command.match(/-d '([^]*)'$/);
  const response = await fetch(endpoint, { method: "POST", headers: { "X-API-Key": key }, body });
  assert.equal(response.status, 200);
  await heard(page, "Hello!");

  const tasks = await page.getAttribute("#tasks", "href");
  if (tasks) assert.equal((await fetch(tasks)).status, 200, `the task tree at ${tasks}`);
});

test("the page comes back by itself when the server was away", limits, async (t) => {
  const path = room("away");
  const [ada, bob] = [await window(t, "Ada", { path }), await window(t, "Bob", { path })];
  await say(ada, "before");
  await heard(bob, "before");
  await fetch(`${control}/stop`, { method: "POST" });
  await state(ada, "Reconnecting…");
  await ada.screenshot({ path: `${screens}/server-away.png` });
  await fetch(`${control}/start`, { method: "POST" });
  await state(ada, "Connected");
  await state(bob, "Connected");
  await say(bob, "after");
  await heard(ada, "after");
  assert.deepEqual(await texts(ada), ["before", "after"]);
  assert.deepEqual(complaints, []);
});
