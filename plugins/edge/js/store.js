// Where isolates share the slots of rate limits, for tests of what that is.
const EMPTY = new Uint8Array(0);

/** The slot of the seed; see `Store` in the types. */
export const SEED_SLOT = 135_168;

/** Slots in the memory of one isolate, for tests of what a store is. Without a store the module keeps its own. */
export class MemoryStore {
  #slots = new Map();

  async load(slots) {
    return slots.map((slot) => {
      // The seed of hashes, drawn once.
      if (slot === SEED_SLOT && !this.#slots.has(slot)) {
        this.#slots.set(slot, { bytes: crypto.getRandomValues(new Uint8Array(8)), version: 1 });
      }
      return this.#slots.get(slot) ?? { bytes: EMPTY, version: 0 };
    });
  }

  async store(writes) {
    if (writes.some(({ slot, version }) => (this.#slots.get(slot)?.version ?? 0) !== version)) return false;
    for (const { slot, bytes, version } of writes) this.#slots.set(slot, { bytes, version: version + 1 });
    return true;
  }
}
