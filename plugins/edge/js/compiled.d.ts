import type { Options, Portcullis as Guarded } from "./index.d.ts";

export { MemoryStore, SEED_SLOT } from "./index.d.ts";
export type { Context, Facts, Options, Store } from "./index.d.ts";

/** What the package offers under a compiled configuration. */
export interface Compiled {
  Portcullis: new (options?: Options) => Guarded;
  withPortcullis<Rest extends unknown[]>(
    handler: (request: Request, ...rest: Rest) => Response | Promise<Response>,
    options?: Options,
  ): ((request: Request, ...rest: Rest) => Promise<Response>) & { portcullis: Guarded };
}

/** Loads a module that `portcullis-compile` wrote; an isolate holds one. */
export function load(module: WebAssembly.Module | BufferSource): Compiled;
