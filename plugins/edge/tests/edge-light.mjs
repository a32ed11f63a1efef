// node edge-light.mjs PACKAGE CASES RESULTS: the same inside Vercel's edge-runtime, from a bundle as a framework makes it:
// `exports` is read for the condition `edge-light`, and `?module` gives a compiled module.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { EdgeRuntime } from "edge-runtime";
import { build } from "esbuild";

const [, cases, results] = process.argv.slice(2);
const modules = {
  name: "modules",
  setup(bundler) {
    bundler.onResolve({ filter: /\.wasm\?module$/ }, ({ path, resolveDir }) => ({
      path: `${resolveDir}/${path.slice(0, -"?module".length)}`,
      namespace: "module",
    }));
    bundler.onLoad({ filter: /.*/, namespace: "module" }, ({ path }) => ({
      contents: `export default new WebAssembly.Module(Uint8Array.from(atob("${readFileSync(path, "base64")}"), (c) => c.charCodeAt(0)));`,
    }));
  },
};
const { outputFiles } = await build({
  stdin: {
    contents: 'import * as edge from "@portcullis/edge"; import { replay } from "./driver.js"; globalThis.run = (cases) => replay(edge, JSON.parse(cases)).then(JSON.stringify);',
    resolveDir: fileURLToPath(new URL(".", import.meta.url)),
  },
  bundle: true,
  write: false,
  format: "iife",
  conditions: ["edge-light"],
  plugins: [modules],
});
const runtime = new EdgeRuntime();
runtime.evaluate(outputFiles[0].text);
writeFileSync(results, await runtime.evaluate(`run(${JSON.stringify(readFileSync(cases, "utf8"))})`));
