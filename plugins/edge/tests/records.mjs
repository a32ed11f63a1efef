// node records.mjs URL TOKEN: three requests behind the package, whose records go to a companion; one with a wrong token first, so
// that records wait and are not lost. And sinks that never answer.
import assert from "node:assert/strict";
import { withPortcullis } from "@portcullis/edge";

const [url, token] = process.argv.slice(2);
const configuration = { tenant: { from: [{ fixed: "acme" }] } };
const said = [];
let right = false;
const guarded = withPortcullis(() => new Response("ok"), configuration, {
  log: (level, text) => said.push(text),
  audit: { url, token, fetch: (to, init) => fetch(to, right ? init : { ...init, headers: { ...init.headers, authorization: "Bearer wrong" } }) },
});
const attack = "https://app.test/?q=1'%20union%20select%20password%20from%20users--%20";
for (const [address, status] of [["https://app.test/a", 200], [attack, 403], ["https://app.test/b", 200]]) {
  assert.equal((await guarded(new Request(address))).status, status);
}
assert.equal(await guarded.portcullis.flush(), 3, "what was refused waits");
right = true;
for (let turn = 0; turn < 200 && (await guarded.portcullis.flush()) > 0; turn += 1) {
  // After a refusal the queue takes its time.
  await new Promise((resolve) => setTimeout(resolve, 50));
}
assert.equal(await guarded.portcullis.flush(), 0, said.join("\n"));

// A sink that never answers is given up after a while, and its records are sent anew; what it says after that counts nothing.
let now = 0;
const taken = [], answers = [];
const hanging = withPortcullis(() => new Response("ok"), configuration, {
  log: (level, text) => said.push(text),
  clock: { now: () => now, wall: () => 1_700_000_000_000 + now },
  audit: (lines) => {
    taken.push(lines);
    return taken.length === 1 ? new Promise((resolve) => answers.push(resolve)) : undefined;
  },
});
await hanging(new Request("https://app.test/a"));
assert.equal(taken.length, 1);
now = 29_000;
await hanging(new Request("https://app.test/b"));
assert.equal(taken.length, 1, "one batch at a time");
now = 31_000;
await hanging(new Request("https://app.test/c"));
assert.ok(said.some((text) => text.includes("does not answer")), said.join("\n"));
// After that the queue takes its time.
now = 100_000;
await hanging.portcullis.flush();
answers[0]();
assert.equal(await hanging.portcullis.flush(), 0);
assert.equal(taken[1], taken[0], "the same lines");
assert.equal(taken.slice(1).join("").trim().split("\n").length, 3);

// A companion has ten seconds: whoever fetches is told when they are over.
let signal;
const slow = withPortcullis(() => new Response("ok"), configuration, {
  log: () => {},
  audit: { url, token, fetch: (to, init) => ({ signal } = init) && Promise.reject(new Error("slow")) },
});
await slow(new Request("https://app.test/"));
assert.ok(signal instanceof AbortSignal && !signal.aborted);
