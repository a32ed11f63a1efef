// node workerd.mjs PACKAGE CASES RESULTS: the same inside workerd, which miniflare starts.
import { readFileSync, writeFileSync } from "node:fs";
import { Miniflare } from "miniflare";

const [folder, cases, results] = process.argv.slice(2);
const file = (path, type, from) => ({ type, path, contents: readFileSync(from) });
const worker = `
import * as edge from "./full/workerd.js";
import { replay } from "./driver.js";
export default {
  async fetch(request) {
    return Response.json(await replay(edge, await request.json()));
  },
};`;
const mf = new Miniflare({
  compatibilityDate: "2026-01-01",
  modules: [
    { type: "ESModule", path: "worker.js", contents: worker },
    file("driver.js", "ESModule", new URL("./driver.js", import.meta.url)),
    ...["workerd", "portcullis", "messages", "bodies", "sink", "store", "wasm/portcullis"].map((name) =>
      file(`full/${name}.js`, "ESModule", `${folder}/full/${name}.js`)),
    file("full/wasm/portcullis_bg.wasm", "CompiledWasm", `${folder}/full/wasm/portcullis_bg.wasm`),
  ],
});
try {
  const all = JSON.parse(readFileSync(cases, "utf8"));
  const seen = [];
  // Some at a time: one answer with all of them would not fit into an isolate.
  for (let at = 0; at < all.length; at += 50) {
    const answer = await mf.dispatchFetch("http://replay/", { method: "POST", body: JSON.stringify(all.slice(at, at + 50)) });
    if (!answer.ok) throw new Error(`workerd answers ${answer.status}: ${await answer.text()}`);
    seen.push(...(await answer.json()));
  }
  writeFileSync(results, JSON.stringify(seen));
} finally {
  await mf.dispose();
}
