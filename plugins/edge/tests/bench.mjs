// node bench.mjs LEAKS [ROUNDS] [REQUESTS], as `make bench-edge` calls it: what a request costs workerd, in microseconds of its own
// CPU time: a handler alone, the header policy in plain JavaScript, the same policy by the package, and the whole chain. Each is a
// workerd of its own; load goes to one after the other in short rounds of rotating order. What is compared is compared within
// a round: medians, and the interval in which a median lies with 95 % confidence. BESIDE=folder measures the light build of
// another package in the same rounds.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { Agent, request } from "undici";
import workerd from "workerd";

const [, , source, rounds = 40, requests = 1000] = process.argv.map((text, at) => (at > 2 ? Number(text) : text));
const CONNECTIONS = 16;
// Requests after which V8 has compiled what is called often.
const WARM = 8000;
const OWN = new URL("./node_modules/@portcullis/edge/", import.meta.url);
const beside = process.env.BESIDE && pathToFileURL(`${process.env.BESIDE}/`);
const packaged = (folder, build) =>
  readdirSync(new URL(`${build}/`, folder), { recursive: true })
    .filter((path) => path === "workerd.js" || !/^(node|deno|default|edge-light)\.js$|\.d\.ts$|^wasm$/.test(path))
    .map((path) => ({
      type: path.endsWith(".wasm") ? "CompiledWasm" : "ESModule",
      path: `${build}/${path}`,
      contents: readFileSync(new URL(`${build}/${path}`, folder)),
    }));
// It is handed the correlation ID, and says that it was.
const handler = `const handler = (request) => new Response("<!doctype html><title>x</title>", {
  headers: {
    "content-type": "text/html; charset=utf-8", server: "nginx/1.27.1", "x-powered-by": "PHP/8.3",
    "x-told": String(request.headers.has("x-request-id")),
  },
});`;
const ours = (build, configuration, folder = OWN) => ({
  modules: [
    { type: "ESModule", path: "worker.js", contents: `import { withPortcullis } from "./${build}/workerd.js";
${handler}
export default { fetch: withPortcullis(handler, ${JSON.stringify(configuration)}, { audit: () => {} }) };` },
    ...packaged(folder, build),
  ],
});

// What the policy sets is read from its own answer, so that both do the same; what it removes is named here.
const plain = (set, leaks) => ({
  modules: [{ type: "ESModule", path: "worker.js", contents: `${handler}
const set = ${JSON.stringify(set)}, leaks = new Set(${JSON.stringify(leaks)});
export default {
  async fetch(request) {
    let id = request.headers.get("x-request-id");
    if (id === null) {
      id = crypto.randomUUID();
      request = new Request(request);
      request.headers.set("x-request-id", id);
    }
    const answer = await handler(request);
    const headers = answer.headers;
    const removed = [];
    for (const [name] of headers) if (leaks.has(name)) removed.push(name);
    for (const name of removed) headers.delete(name);
    for (const [name, value] of set) headers.set(name, value);
    headers.set("x-request-id", id);
    return answer;
  },
};` }],
});

// Headers that tell which software runs: the policy's own list.
const leaks = Array.from(readFileSync(source, "utf8").split("[&str] = &[")[1].split("];")[0].matchAll(/"([^"]+)"/g), ([, name]) => name);
assert.ok(leaks.length > 80);

// Of all threads, in microseconds (proc(5): the first number of `schedstat` is nanoseconds).
const cpu = (pid) =>
  readdirSync(`/proc/${pid}/task`).reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]) / 1000, 0);

// Workerd itself, without what a development server adds.
async function start(name, { modules }) {
  const folder = mkdtempSync(join(tmpdir(), "portcullis-bench-"));
  const entry = ({ type, path, contents }, number) => {
    writeFileSync(join(folder, String(number)), contents);
    return `(name = ${JSON.stringify(path)}, ${type === "CompiledWasm" ? "wasm" : "esModule"} = embed "${number}")`;
  };
  writeFileSync(join(folder, "config.capnp"), `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")]
);
const main :Workerd.Worker = (compatibilityDate = "2026-01-01", modules = [${modules.map(entry).join(", ")}]);`);
  const server = spawn(workerd.default, ["serve", "--control-fd=3", join(folder, "config.capnp")], { stdio: ["ignore", "inherit", "inherit", "pipe"] });
  server.once("exit", () => rmSync(folder, { recursive: true }));
  const { port } = JSON.parse(String((await once(server.stdio[3], "data"))[0]).split("\n")[0]);
  const agent = new Agent({ connections: CONNECTIONS, pipelining: 1 });
  return { name, server, url: new URL(`http://127.0.0.1:${port}/shop/items?page=2`), pid: server.pid, agent, costs: [] };
}

async function load(worker, count) {
  let left = count;
  const client = async () => {
    while (left > 0) {
      left -= 1;
      const { statusCode, body } = await request(worker.url, { dispatcher: worker.agent, headers: {
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", accept: "text/html",
        "accept-language": "en-US,en;q=0.5", cookie: "session=4f5a6b7c8d9e; theme=dark",
      } });
      assert.equal(statusCode, 200);
      await body.dump();
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, client));
}

const headersOf = async (worker) => {
  const { headers } = await request(worker.url, { dispatcher: worker.agent });
  for (const own of ["date", "connection", "keep-alive", "transfer-encoding", "content-length", "x-request-id"]) delete headers[own];
  return headers;
};

const policy = { policies: ["headers"] };
const light = await start("headers, by the package", ours("light", policy));
const answer = await headersOf(light);
assert.equal(answer["x-told"], "true");
const set = Object.entries(answer).filter(([name]) => name !== "content-type" && name !== "x-told");
const alone = await start("a handler alone", { modules: [{ type: "ESModule", path: "worker.js", contents: `${handler}\nexport default { fetch: handler };` }] });
const script = await start("headers, in plain JavaScript", plain(set, leaks));
const whole = await start("the whole chain", ours("full", { rate_limit: { rules: [{ name: "api", limit: 1000000, window: "1m" }] } }));
const workers = [alone, script, light, whole];
if (beside) workers.push(await start("headers, by the other package", ours("light", policy, beside)));

// The middle, and the two values between which the middle lies with 95 % confidence: their ranks are those of a coin that was
// thrown so many times (the normal approximation of the binomial distribution).
function middle(values) {
  const sorted = values.toSorted((a, b) => a - b), count = sorted.length;
  const reach = Math.ceil((1.96 * Math.sqrt(count)) / 2);
  const at = (rank) => sorted[Math.min(Math.max(rank, 0), count - 1)];
  return { median: at(Math.floor(count / 2)), low: at(Math.floor(count / 2) - reach), high: at(Math.floor(count / 2) + reach) };
}
const compared = (worker, other) => middle(worker.costs.map((cost, round) => cost / other.costs[round]));
const shown = ({ median, low, high }) => `${median.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;

try {
  assert.deepEqual(await headersOf(script), answer, "both answer alike");
  for (const worker of workers) await load(worker, WARM);
  for (let round = 0; round < rounds; round += 1) {
    for (let turn = 0; turn < workers.length; turn += 1) {
      const worker = workers[(round + turn) % workers.length];
      await sleep(20);
      const before = cpu(worker.pid);
      await load(worker, requests);
      worker.costs.push((cpu(worker.pid) - before) / requests);
    }
  }
  for (const worker of workers) {
    const { median, low, high } = middle(worker.costs);
    console.log(`${median.toFixed(1).padStart(8)} us  ${worker.name}  (${low.toFixed(1)} to ${high.toFixed(1)})`);
  }
  console.log(`the package takes ${shown(compared(light, script))} times what plain JavaScript takes; the aim is 1.2`);
  if (beside) console.log(`and ${shown(compared(light, workers.at(-1)))} times what the other package takes`);
} finally {
  for (const worker of workers) {
    await worker.agent.close();
    worker.server.kill();
  }
}
