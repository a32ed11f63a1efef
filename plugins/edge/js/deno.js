import { initSync } from "./wasm/portcullis.js";

initSync({ module: new WebAssembly.Module(Deno.readFileSync(new URL("./wasm/portcullis_bg.wasm", import.meta.url))) });
export * from "./portcullis.js";
