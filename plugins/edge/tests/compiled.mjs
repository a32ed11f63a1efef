// node compiled.mjs PACKAGE CASES RESULTS: replays cases twice, under the light build and under modules that were compiled from
// their configurations beforehand; an array of both results for each. An isolate holds one compiled module: a thread a case.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { replay } from "./driver.js";

const load = (folder, path) => import(pathToFileURL(`${folder}/${path}`));

async function inThread({ folder, one }) {
  const { compiled } = await load(folder, "compiler.js");
  const { load: loaded } = await load(folder, "compiled/compiled.js");
  let Portcullis;
  try {
    ({ Portcullis } = loaded(new WebAssembly.Module(compiled(one.configuration).module)));
  } catch (error) {
    return { failed: `${error.stack ?? error}` };
  }
  const edge = { Portcullis: class extends Portcullis {
    constructor(_, options) {
      super(options);
    }
  } };
  return (await replay(edge, [one]))[0];
}

const asked = (data) =>
  new Promise((resolve, reject) => {
    const thread = new Worker(new URL(import.meta.url), { workerData: data });
    thread.once("message", resolve).once("error", reject);
  });

if (isMainThread) {
  const [folder, cases, results] = process.argv.slice(2);
  const all = JSON.parse(readFileSync(cases, "utf8"));
  const light = await replay(await load(folder, "light/node.js"), all);
  const both = [];
  for (const [at, one] of all.entries()) both.push([light[at], await asked({ folder, one })]);
  writeFileSync(results, JSON.stringify(both));
} else {
  parentPort.postMessage(await inThread(workerData));
}
