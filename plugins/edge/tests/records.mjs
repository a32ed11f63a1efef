// node records.mjs URL TOKEN: three requests behind the package, whose records go to a companion; one with a wrong token first, so
// that records wait and are not lost.
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
