import { readFileSync } from "node:fs";
import { initSync } from "./wasm/portcullis.js";

initSync({ module: new WebAssembly.Module(readFileSync(new URL("./wasm/portcullis_bg.wasm", import.meta.url))) });
export * from "./portcullis.js";
