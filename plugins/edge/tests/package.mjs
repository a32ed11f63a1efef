// node package.mjs: what users write: a handler, Hono, a store, a sink, wrong input. Through `exports`, as an application would.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { Hono } from "hono";
import { Miniflare } from "miniflare";
import { MemoryStore, Portcullis, withPortcullis } from "@portcullis/edge";
import * as light from "@portcullis/edge/light";
import { load } from "@portcullis/edge/compiled";
import { portcullis } from "@portcullis/edge/hono";
import { portcullis as lightly } from "@portcullis/edge/light/hono";
import { portcullis as around } from "@portcullis/edge/compiled/hono";

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
  const small = new Hono();
  small.use(lightly({ headers: { set: { "x-team": "blue" } } }, quiet));
  small.get("/", (c) => c.text("hello", 200, { "x-powered-by": "x" }));
  const { headers } = await small.request(attack);
  assert.deepEqual([headers.get("x-team"), headers.get("x-powered-by")], ["blue", null]);
}

// What a file of the package imports, and they in turn: nobody ships a build that he does not use.
function shipsOnlyItsOwn() {
  const reached = (entry, seen = new Set()) => {
    if (seen.has(entry)) return seen;
    seen.add(entry);
    for (const [, named] of readFileSync(new URL(entry), "utf8").matchAll(/^(?:import|export) [^;]*?"([^"]+)"/gm)) {
      if (named.startsWith(".")) reached(new URL(named, entry).href, seen);
      else if (named.startsWith("@portcullis")) reached(import.meta.resolve(named), seen);
    }
    return seen;
  };
  const root = new URL("../", import.meta.resolve("@portcullis/edge/compiled")).href;
  for (const [name, allowed] of [
    ["light/hono", ["light"]], ["compiled/hono", []], ["hono", ["full"]], ["compiled", ["compiled"]],
  ]) {
    const folders = [...reached(import.meta.resolve(`@portcullis/edge/${name}`))].map((file) => file.slice(root.length).split("/"));
    assert.deepEqual([...new Set(folders.filter(({ length }) => length > 1).map(([folder]) => folder))], allowed, name);
  }
  const store = [...reached(`${root}durable-object.js`)].map((file) => file.slice(root.length));
  assert.deepEqual(store, ["durable-object.js", "light/store.js"]);
}

function schema() {
  const found = JSON.parse(readFileSync(new URL(import.meta.resolve("@portcullis/edge/configuration.schema.json")), "utf8"));
  assert.ok(found.properties.rate_limit);
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
  // A store in which somebody else is first: nobody is admitted uncounted, and what was decided in vain counts nowhere.
  for (const [lost, status] of [[Infinity, 503], [1, 200]]) {
    const own = new MemoryStore();
    let left = lost;
    const outrun = { load: (slots) => own.load(slots), store: async (writes) => (left-- > 0 ? false : own.store(writes)) };
    const guarded = withPortcullis(ok, { rate_limit: { rules, on_error: "deny" } }, { ...quiet, store: outrun });
    assert.equal((await guarded(new Request("https://app.test/"))).status, status, `lost ${lost}`);
    assert.equal(guarded.portcullis.metrics().portcullis_requests_total, 1, `lost ${lost}`);
  }
}

// A handler gives up a body that is still on its way: its answer arrives, and is recorded.
async function givenUp() {
  const records = [];
  const guarded = withPortcullis(
    async (request) => {
      const reader = request.body.getReader();
      await reader.read();
      await reader.cancel();
      return new Response("enough", { status: 418 });
    },
    { sanitize: { body_max_bytes: 8192 } },
    { ...quiet, audit: (lines) => void records.push(lines) },
  );
  let sent = 0;
  const body = new ReadableStream({
    pull: (controller) => (sent++ < 5 ? controller.enqueue(new TextEncoder().encode("words ".repeat(700))) : new Promise(() => {})),
  });
  const request = new Request("https://app.test/", { method: "POST", duplex: "half", headers: { "content-type": "text/plain" }, body });
  assert.equal((await guarded(request)).status, 418);
  await guarded.portcullis.flush();
  assert.equal(records.join("").trim().split("\n").length, 1);
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

// The command, and what it writes in Node and in workerd, as an application would take it there.
async function compiledBeforehand() {
  const packaged = (path) => fileURLToPath(new URL(`./node_modules/@portcullis/edge/${path}`, import.meta.url));
  const folder = mkdtempSync(`${tmpdir()}/portcullis-`);
  const run = (...parts) => spawnSync(process.execPath, [packaged("compile.js"), ...parts], { encoding: "utf8" });
  try {
    const [from, to, again] = ["a.json", "a.wasm", "b.wasm"].map((name) => `${folder}/${name}`);
    writeFileSync(from, JSON.stringify({ headers: { set: { "x-team": "blue" } }, sanitize: {} }));
    const done = run(from, to);
    assert.equal(done.status, 0, done.stderr);
    assert.match(done.stderr, /^warning: sanitize: is not part of this module/m);
    run(from, again);
    assert.ok(readFileSync(to).equals(readFileSync(again)), "the same configuration gives the same bytes");
    writeFileSync(from, '{"headerz": {}}');
    const refused = run(from, again);
    assert.deepEqual([refused.status, /headerz.*headers/.test(refused.stderr)], [1, true], refused.stderr);
    assert.deepEqual([run().status, run("--help").status, run(`${folder}/none`, to).status], [2, 0, 1]);

    const other = new WebAssembly.Module(readFileSync(packaged("compiled/wasm/portcullis_bg.wasm")));
    assert.throws(() => load(other), /run portcullis-compile again/);
    const module = new WebAssembly.Module(readFileSync(to));
    const { withPortcullis: guarded, Portcullis: Guarded } = load(module);
    for (const answer of [await guarded(ok, quiet)(attack), await new Guarded(quiet).handle(attack, ok)]) {
      assert.deepEqual([answer.status, answer.headers.get("x-team"), answer.headers.get("x-powered-by")], [200, "blue", null]);
    }
    const app = new Hono();
    app.use(around(new Guarded(quiet)));
    app.get("/", ok);
    assert.equal((await app.request("https://app.test/")).headers.get("x-team"), "blue");
    assert.throws(() => load(new WebAssembly.Module(readFileSync(to))), /another compiled configuration/);

    const file = (path, type = "ESModule") => ({ type, path, contents: readFileSync(packaged(path)) });
    const worker = `import module from "./guard.wasm";
import { load } from "./compiled/compiled.js";
export default { fetch: load(module).withPortcullis(() => new Response("ok")) };`;
    const mf = new Miniflare({
      compatibilityDate: "2026-01-01",
      modules: [
        { type: "ESModule", path: "worker.js", contents: worker },
        { type: "CompiledWasm", path: "guard.wasm", contents: readFileSync(to) },
        ...["compiled", "build", "portcullis", "messages", "bodies", "sink", "store", "wasm/portcullis"].map((name) => file(`compiled/${name}.js`)),
      ],
    });
    try {
      assert.equal((await mf.dispatchFetch("http://app.test/")).headers.get("x-team"), "blue");
    } finally {
      await mf.dispose();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

for (const part of [handler, hono, shipsOnlyItsOwn, schema, store, givenUp, bodies, badInput, withoutSanitize, compiledBeforehand]) {
  await part();
  console.log(`ok ${part.name}`);
}
