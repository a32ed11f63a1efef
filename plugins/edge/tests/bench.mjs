// node bench.mjs LEAKS [ROUNDS] [REQUESTS], as `make bench-edge` calls it: what a request costs workerd, in microseconds of its own CPU time: a handler alone, the header
// policy in plain JavaScript, the same policy by the package, and the whole chain. Alternating rounds of one run; medians.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { Miniflare } from "miniflare";

const [, , source, rounds = 5, requests = 4000] = process.argv.map((text, at) => (at > 2 ? Number(text) : text));
const CONNECTIONS = 16;
// Of a second on Linux.
const TICKS = 100;
const folder = new URL("./node_modules/@portcullis/edge/", import.meta.url);
const file = (build, path, type = "ESModule") => ({ type, path: `${build}/${path}`, contents: readFileSync(new URL(`${build}/${path}`, folder)) });
const packaged = (build) => [
  file(build, "workerd.js"),
  file(build, "portcullis.js"),
  file(build, "wasm/portcullis.js"),
  file(build, "wasm/portcullis_bg.wasm", "CompiledWasm"),
];
// It is handed the correlation ID, and says that it was.
const handler = `const handler = (request) => new Response("<!doctype html><title>x</title>", {
  headers: {
    "content-type": "text/html; charset=utf-8", server: "nginx/1.27.1", "x-powered-by": "PHP/8.3",
    "x-told": String(request.headers.has("x-request-id")),
  },
});`;
const ours = (build, configuration) => ({
  modules: [
    { type: "ESModule", path: "worker.js", contents: `import { withPortcullis } from "./${build}/workerd.js";
${handler}
export default { fetch: withPortcullis(handler, ${JSON.stringify(configuration)}, { audit: () => {} }) };` },
    ...packaged(build),
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

function children() {
  return readdirSync("/proc").filter((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      return stat.includes("(workerd)") && stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1] === String(process.pid);
    } catch {
      return false;
    }
  });
}

const cpu = (pid) => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1e6) / TICKS;
};

async function start(name, options) {
  const before = children();
  const mf = new Miniflare({ compatibilityDate: "2026-01-01", ...options });
  const url = await mf.ready;
  const pid = children().find((pid) => !before.includes(pid));
  const agent = new Agent({ connections: CONNECTIONS, pipelining: 1 });
  return { name, mf, url: new URL("/shop/items?page=2", url), pid, agent, costs: [] };
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
const workers = [
  await start("a handler alone", { modules: [{ type: "ESModule", path: "worker.js", contents: `${handler}\nexport default { fetch: handler };` }] }),
  await start("headers, in plain JavaScript", plain(set, leaks)),
  light,
  await start("the whole chain", ours("full", { rate_limit: { rules: [{ name: "api", limit: 1000000, window: "1m" }] } })),
];
try {
  assert.deepEqual(await headersOf(workers[1]), answer, "both answer alike");
  for (const worker of workers) await load(worker, requests);
  for (let round = 0; round < rounds; round += 1) {
    for (const worker of workers) {
      await sleep(100);
      const before = cpu(worker.pid);
      await load(worker, requests);
      worker.costs.push((cpu(worker.pid) - before) / requests);
    }
  }
  for (const worker of workers) {
    worker.costs.sort((a, b) => a - b);
    worker.median = worker.costs[Math.floor(rounds / 2)];
    console.log(`${worker.median.toFixed(1).padStart(8)} us  ${worker.name}  (${worker.costs.map((cost) => cost.toFixed(0)).join(" ")})`);
  }
  const ratio = light.median / workers[1].median;
  console.log(`the package takes ${ratio.toFixed(2)} times what plain JavaScript takes; the aim is 1.2`);
} finally {
  for (const worker of workers) {
    await worker.agent.close();
    await worker.mf.dispose();
  }
}
