// node package.mjs: what users write: a handler, Hono, a store, a sink, wrong input. Through `exports`, as an application would.
import assert from "node:assert/strict";
import { Hono } from "hono";
import { MemoryStore, Portcullis, withPortcullis } from "@portcullis/edge";
import * as light from "@portcullis/edge/light";
import { portcullis } from "@portcullis/edge/hono";

const quiet = { log: () => {} };
const attack = new Request("https://app.test/?q=1'%20union%20select%20password%20from%20users--%20");
const ok = () => new Response("ok", { headers: { "x-powered-by": "x" } });

async function handler() {
  const records = [];
  const waited = [];
  const context = { waitUntil: (promise) => waited.push(promise) };
  const fetch = withPortcullis((request, env) => new Response(env.name), {}, { ...quiet, audit: (lines) => void records.push(lines) });
  const passed = await fetch(new Request("https://app.test/"), { name: "blue" }, context);
  assert.equal(await passed.text(), "blue");
  assert.equal(passed.headers.get("x-content-type-options"), "nosniff");
  const refused = await fetch(attack, { name: "blue" }, context);
  assert.equal(refused.status, 403);
  assert.equal((await refused.json()).reason, "sql-injection");
  await Promise.all(waited);
  assert.equal(await fetch.portcullis.flush(), 0);
  assert.equal(records.join("").trim().split("\n").length, 2);
}

async function hono() {
  const app = new Hono();
  app.use(portcullis({}, quiet));
  app.get("/", (c) => c.text("hello", 200, { "x-powered-by": "x" }));
  app.post("/echo", async (c) => c.text(await c.req.text()));
  const passed = await app.request("https://app.test/");
  assert.deepEqual([passed.status, await passed.text(), passed.headers.get("x-powered-by")], [200, "hello", null]);
  const body = { method: "POST", headers: { "content-type": "application/json" }, body: '{"name": "O\'Brien"}' };
  assert.equal(await (await app.request("https://app.test/echo", body)).text(), body.body);
  const refused = await app.request("https://app.test/echo", { ...body, body: '{"q": "1\' union select password from users-- "}' });
  assert.equal(refused.status, 403);
}

// Limits are exact, however many isolates share a store and however their requests interleave.
async function store() {
  const rules = [{ name: "api", limit: 5, window: "1m" }];
  const configuration = { rate_limit: { rules }, audit: { mode: "off" } };
  const shared = new MemoryStore();
  const isolates = [1, 2, 3].map(() => withPortcullis(ok, configuration, { ...quiet, store: shared }));
  const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => isolates[n % 3](new Request("https://app.test/"))));
  assert.equal(answers.filter(({ status }) => status === 200).length, 5);
  assert.equal(answers.filter(({ status }) => status === 429).length, 25);
  // A store that is away: what the section says.
  const gone = { load: () => Promise.reject(new Error("gone")), store: () => Promise.reject(new Error("gone")) };
  for (const [on_error, status] of [["allow", 200], ["deny", 503]]) {
    const said = [];
    const away = withPortcullis(ok, { rate_limit: { rules, on_error } }, { store: gone, log: (level, text) => said.push(text) });
    assert.equal((await away(new Request("https://app.test/"))).status, status, on_error);
    assert.ok(said.some((text) => text.includes("store")), said.join());
  }
}

async function bodies() {
  const guarded = withPortcullis(async (request) => new Response(await request.text()), {}, { ...quiet, maxHeldBytes: 1000 });
  const json = (body) => new Request("https://app.test/", { method: "POST", headers: { "content-type": "application/json" }, body });
  const long = await guarded(json(`{"a": "${"x".repeat(2000)}"}`));
  assert.ok([200, 413].includes(long.status), String(long.status));
  const failing = new Request("https://app.test/", {
    method: "POST", duplex: "half", headers: { "content-type": "application/json" },
    body: new ReadableStream({ pull(controller) { controller.error(new Error("broken")); } }),
  });
  await assert.rejects(guarded(failing), /broken/);
  await assert.rejects(withPortcullis(() => { throw new Error("own"); }, {}, quiet)(new Request("https://app.test/")), /own/);
}

function badInput() {
  assert.throws(() => new Portcullis({ rate_limit: { rules: [{ name: "a", limit: 1, window: "0s" }] } }), /rate_limit\.rules\[0\]\.window: 0s; must be/);
  assert.throws(() => new Portcullis({ headerz: {} }), /headerz.*headers/);
  assert.throws(() => new Portcullis("{"), /./);
}

async function withoutSanitize() {
  const guarded = light.withPortcullis(ok, {}, quiet);
  const passed = await guarded(attack);
  assert.deepEqual([passed.status, passed.headers.get("x-frame-options"), passed.headers.get("x-powered-by")], [200, "DENY", null]);
}

for (const part of [handler, hono, store, bodies, badInput, withoutSanitize]) {
  await part();
  console.log(`ok ${part.name}`);
}
