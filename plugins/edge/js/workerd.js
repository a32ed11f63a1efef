import module from "./wasm/portcullis_bg.wasm";
import { initSync } from "./wasm/portcullis.js";

initSync({ module });
export * from "./portcullis.js";
