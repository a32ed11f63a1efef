import type { Store } from "./light/index.d.ts";

/** A Durable Object that keeps the slots of rate limits. Export it from the worker, and bind it under a name of yours. */
export class PortcullisStore implements Store {
  constructor(state: unknown, env: unknown);
  load: Store["load"];
  store: Store["store"];
}

/** The store for `Options.store`: `durableStore(() => env.SLOTS.get(env.SLOTS.idFromName("slots")))`. */
export function durableStore(stub: () => Store): Store;
