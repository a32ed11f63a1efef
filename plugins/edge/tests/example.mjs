// node example.mjs WORKER [PORT]: runs the example worker in workerd, as a developer's bundler and Cloudflare would, until Ctrl-C.
// With `--check` it asks it a few things instead and ends.
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { Miniflare } from "miniflare";

const [, , worker, port = "8787"] = process.argv;
const check = port === "--check";
const folder = fileURLToPath(new URL(check ? "example-check/" : "example/", import.meta.url));
await build({
  entryPoints: [worker],
  nodePaths: [fileURLToPath(new URL("node_modules", import.meta.url))],
  bundle: true,
  outdir: folder,
  format: "esm",
  conditions: ["workerd"],
  external: ["cloudflare:*"],
  loader: { ".wasm": "copy" },
});
const mf = new Miniflare({
  compatibilityDate: "2026-01-01",
  port: check ? 0 : Number(port),
  modules: true,
  modulesRoot: folder,
  modulesRules: [{ type: "ESModule", include: ["**/*.js"] }, { type: "CompiledWasm", include: ["**/*.wasm"] }],
  scriptPath: `${folder}worker.js`,
  durableObjects: { SLOTS: { className: "PortcullisStore", useSQLite: true } },
});
const url = await mf.ready;

if (check) {
  try {
    const page = await fetch(url);
    assert.equal(page.status, 200);
    assert.match(page.headers.get("content-security-policy"), /default-src/);
    assert.equal(page.headers.get("x-powered-by"), null);
    assert.equal((await fetch(new URL("/search?q=1%27+union+select+password+from+users--+", url))).status, 403);
    // The Durable Object counts for all of them, however they interleave.
    const login = () => fetch(new URL("/login", url), { method: "POST" });
    const logins = await Promise.all(Array.from({ length: 12 }, login));
    const count = (status) => logins.filter((answer) => answer.status === status).length;
    assert.deepEqual([count(200), count(429)], [5, 7]);
    console.log("ok example");
  } finally {
    await mf.dispose();
  }
} else {
  console.log(`workerd serves ${url}; try
  curl -i ${url}
  curl -i '${url}search?q=1%27+union+select+password+from+users--+'
  for n in 1 2 3 4 5 6; do curl -so /dev/null -w '%{http_code}\\n' -X POST ${url}login; done
Ctrl-C ends it.`);
  process.on("SIGINT", () => mf.dispose().then(() => process.exit(0)));
}
