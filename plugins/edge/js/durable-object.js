// A rate store that all isolates of a Cloudflare account share: one Durable Object, which serves one request at a time.
import { DurableObject } from "cloudflare:workers";
// A file without imports: no build of the module comes along.
import { SEED_SLOT } from "./light/store.js";

const EMPTY = new Uint8Array(0);
// `storage.get` takes so many keys at once; a request has a slot for each rule.
const KEYS = 128;

/** Export it from the worker, and bind it. */
export class PortcullisStore extends DurableObject {
  async load(slots) {
    const keys = slots.slice(0, KEYS).map(String);
    const found = await this.ctx.storage.get(keys);
    if (slots.includes(SEED_SLOT) && !found.has(String(SEED_SLOT))) {
      const seed = { bytes: crypto.getRandomValues(new Uint8Array(8)), version: 1 };
      // Nothing else of this object runs until it is written.
      await this.ctx.storage.put(String(SEED_SLOT), seed);
      found.set(String(SEED_SLOT), seed);
    }
    return keys.map((key) => found.get(key) ?? { bytes: EMPTY, version: 0 });
  }

  store(writes) {
    return this.ctx.storage.transaction(async (transaction) => {
      const found = await transaction.get(writes.slice(0, KEYS).map(({ slot }) => String(slot)));
      if (writes.some(({ slot, version }) => (found.get(String(slot))?.version ?? 0) !== version)) return false;
      await transaction.put(Object.fromEntries(writes.map(({ slot, bytes, version }) => [slot, { bytes, version: version + 1 }])));
      return true;
    });
  }
}

/** The store behind a stub, which is asked for anew each time: a stub belongs to the request that made it. */
export function durableStore(stub) {
  return { load: (slots) => stub().load(slots), store: (writes) => stub().store(writes) };
}
