// A guard whose configuration was compiled when the application was built (`portcullis-compile`): the module holds it, and no
// compiler. An isolate has nothing to compile when it starts.
import { BUILD } from "./build.js";
import { COMPILED, MemoryStore, Portcullis as Guarded, SEED_SLOT, withPortcullis as guarded } from "./portcullis.js";
import { initSync } from "./wasm/portcullis.js";

let loaded;

/** What the package offers under that module's configuration: a `WebAssembly.Module` or its bytes. */
export function load(module) {
  if (loaded && loaded !== module) throw new Error("another compiled configuration is loaded; an isolate holds one");
  if (!loaded) {
    const whole = module instanceof WebAssembly.Module ? module : new WebAssembly.Module(module);
    const [mark] = WebAssembly.Module.customSections(whole, "portcullis");
    if (!mark || new TextDecoder().decode(mark) !== BUILD) {
      throw new Error("the module is not one that this version of the package has compiled; run portcullis-compile again");
    }
    initSync({ module: whole });
    loaded = module;
  }
  return { Portcullis, withPortcullis: (handler, options) => guarded(handler, COMPILED, options) };
}

class Portcullis extends Guarded {
  constructor(options) {
    super(COMPILED, options);
  }
}

export { MemoryStore, SEED_SLOT };
