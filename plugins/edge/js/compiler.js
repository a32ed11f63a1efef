// Compiles a configuration into a module that holds it: the light module compiles, and its memory becomes the data of the same
// module without the compiler. Runs in Node, when an application is built. A process compiles once: what a compilation
// leaves in memory is written down.
import { readFileSync } from "node:fs";
import { BUILD } from "./compiled/build.js";
import { withImage } from "./image.js";
import { Guard, compile, initSync } from "./light/wasm/portcullis.js";

const bytes = (path) => readFileSync(new URL(path, import.meta.url));
let done = false;

/** The module for that configuration, a JSON text, and what is odd about it, a line each. Throws an error that names every
 * problem with path and remedy. */
export function compiled(configuration) {
  if (done) throw new Error("a process compiles one configuration");
  done = true;
  const { memory } = initSync({ module: new WebAssembly.Module(bytes("./light/wasm/portcullis_bg.wasm")) });
  compile(configuration);
  const module = withImage(new Uint8Array(bytes("./compiled/wasm/portcullis_bg.wasm")), memory.buffer, BUILD);
  return { module, warnings: new Guard("", false, false).warnings() };
}
