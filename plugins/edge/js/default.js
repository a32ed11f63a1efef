import initialize from "./wasm/portcullis.js";

await initialize({ module_or_path: new URL("./wasm/portcullis_bg.wasm", import.meta.url) });
export * from "./portcullis.js";
