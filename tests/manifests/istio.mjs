// Validates Istio's WasmPlugin by the schema that npm's @kubernetes-models/istio carries: its values. Unknown keys pass there;
// validate.py refuses them.
//
//   node istio.mjs FOLDER <document.json        FOLDER holds the installed packages of package.json beside this file

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const file = "node_modules/@kubernetes-models/istio/extensions.istio.io/v1alpha1/WasmPlugin.js";
const { WasmPlugin } = await import(pathToFileURL(join(resolve(process.argv[2]), file)).href);
try {
  new WasmPlugin(JSON.parse(readFileSync(0, "utf8"))).validate();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
