// node example.mjs WORKER [PORT]: runs the example worker in workerd until Ctrl-C. With `--check` it asks it a few things
// instead and ends.
import assert from "node:assert/strict";
import { bundled, example } from "./workers.mjs";

const [, , worker, port = "8787"] = process.argv;
const check = port === "--check";
const mf = example(await bundled(worker, check ? "example-check" : "example"), { port: check ? 0 : Number(port) });
const url = await mf.ready;

if (check) {
  try {
    const page = await fetch(url);
    assert.equal(page.status, 200);
    const [, nonce] = page.headers.get("content-security-policy").match(/script-src [^;]*'nonce-([^']{24})'/);
    const text = await page.text();
    assert.ok(text.includes(`nonce="${nonce}"`), `${nonce} not in ${text}`);
    assert.equal(page.headers.get("x-powered-by"), null);
    assert.equal((await fetch(new URL("/search?q=1%27+union+select+password+from+users--+", url))).status, 403);
    assert.match((await fetch(new URL("/logout", url))).headers.get("clear-site-data"), /"cookies"/);
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
