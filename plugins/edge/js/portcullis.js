// The guard: an application's handler behind the chain. What is decided is decided in the module; here are streams,
// promises, time and delivery.
import { joined, release, retain, settled, substitution } from "./bodies.js";
import { address, answerOf, answered, changed, formOf, headOf, plain, refusal } from "./messages.js";
import { sink } from "./sink.js";
import { Guard, compile } from "./wasm/portcullis.js";

export { MemoryStore, SEED_SLOT } from "./store.js";

// As `flag` in src/exchange.rs.
const REQUEST = 1, RESPONSE = 2, INSPECT = 4, FLOW = 8, REFUSED = 16, REPLACED = 32, LOG = 64, RECORDS = 128;
const MISSING = 256, WRITTEN = 512, SUBSTITUTE = 1024;

const EMPTY = new Uint8Array(0);
const ATTEMPTS = 8;
// Milliseconds after which a sink that has not answered is not waited for any more.
const PATIENCE = 30_000;
// Why a stream ended as it did: as `WHY` in src/exchange.rs.
const OWN = 0, UPSTREAM = 1, HANDLER = 2;

/** In the place of a configuration: the one that the module was compiled with (see `compiled.js`). */
export const COMPILED = Symbol("compiled");

/** A configuration at work: its limits, counters and records. One for each isolate. */
export class Portcullis {
  #guard;
  #options;
  #store;
  #most;
  #now;
  #wall;
  #sink;
  #turn;
  // Edits of responses that are made again and again, by the numbers that the module gives them.
  #known = [];
  // Records wait: some were written since the last delivery, or that one failed.
  #owing = false;

  constructor(configuration = {}, options = {}) {
    if (configuration !== COMPILED) {
      compile(typeof configuration === "string" ? configuration : JSON.stringify(configuration));
    }
    this.#options = options;
    this.#store = options.store;
    this.#most = options.maxHeldBytes ?? 1024 * 1024;
    this.#sink = sink(options.audit);
    this.#wall = options.clock?.wall ?? (() => Date.now());
    // Isolates that share slots must share a clock too.
    this.#now = options.clock?.now ?? (this.#store ? () => Date.now() : () => performance.now());
    const environment = String(new URLSearchParams(options.environment));
    this.#guard = new Guard(environment, Boolean(this.#store), Boolean(this.#sink));
    for (const line of this.warnings) this.#say("warn", `configuration: ${line}`);
  }

  /** What is odd about the configuration, a sentence each. */
  get warnings() {
    const text = this.#guard.warnings();
    return text === "" ? [] : text.split("\n");
  }

  /** All counters of this isolate, by name. */
  metrics() {
    const lines = this.#guard.metrics().split("\n");
    const metrics = {};
    for (let at = 0; at + 1 < lines.length; at += 2) metrics[lines[at]] = Number(lines[at + 1]);
    return metrics;
  }

  /** Serves a request: `handler` gets it if it may pass, and its answer is guarded too. */
  async handle(request, handler, context = {}) {
    const exchange = retain(this.#guard.open());
    try {
      return await this.#serve(exchange, request, handler, context);
    } finally {
      release(exchange);
    }
  }

  async #serve(exchange, request, handler, context) {
    const began = this.#now();
    let response;
    try {
      let flags = await this.#decide(exchange, request, began, context);
      let pass = request;
      let late;
      if ((flags & (INSPECT | REFUSED)) === INSPECT) {
        const seen = await this.#inspect(exchange, request);
        flags |= seen.flags;
        ({ late } = seen);
        if (seen.tooLarge) {
          response = plain(413, "Payload Too Large");
        } else if (!(flags & REFUSED)) {
          pass = new Request(request, { body: seen.body, duplex: "half" });
        }
      }
      if (flags & REFUSED) response = refusal(exchange);
      if (!response) {
        const edits = exchange.request_edits();
        if (edits !== "") {
          pass = changed(pass, edits);
        }
        response = await (late ? Promise.race([late, Promise.resolve(handler(pass)).catch((e) => settled(late, e))]) : handler(pass));
      }
    } catch (error) {
      await this.#event(exchange, () => exchange.done(-1, HANDLER, this.#now() - began, this.#now(), this.#wall()));
      this.#deliver(context);
      throw error;
    }
    response = this.#store ? await this.#concludeStored(exchange, response, began) : this.#conclude(exchange, response, began);
    this.#deliver(context);
    return response;
  }

  /** Delivers the records that wait; answers how many still do. */
  async flush() {
    await this.#send();
    return this.#guard.waiting();
  }

  // Answers flags, or a promise of them where a store is asked: a promise costs a turn of the loop.
  #decide(exchange, request, now, context) {
    const head = headOf(request);
    const source = this.#options.clientAddress ? this.#options.clientAddress(request, context) ?? "" : address(request);
    const facts = this.#options.facts?.(request, context);
    const known = facts ? formOf(facts) : "";
    const wall = this.#wall();
    const ask = () => exchange.request(head, source, known, request.body === null, now, wall);
    return this.#store ? this.#settle(exchange, ask) : this.#heard(exchange, ask());
  }

  async #settle(exchange, ask) {
    let flags = ask();
    for (let attempt = 0; flags & (MISSING | WRITTEN); attempt += 1) {
      const done = attempt < ATTEMPTS && (await this.#transact(exchange, flags));
      if (done === "stored") flags = exchange.settle();
      else if (done) flags = ask();
      else {
        // Nobody is admitted on a count that could not be stored: what a limit does without its counts, it says itself.
        exchange.away();
        flags = ask();
      }
    }
    return this.#heard(exchange, flags);
  }

  // "stored", true to ask again, or false when the store is away.
  async #transact(exchange, flags) {
    try {
      if (flags & WRITTEN) {
        if (await this.#write(exchange)) return "stored";
        await this.#read(exchange, exchange.seen());
      } else {
        await this.#read(exchange, exchange.missing());
      }
      return true;
    } catch (error) {
      this.#say("error", `the rate store cannot be reached: ${error}`);
      return false;
    }
  }

  async #read(exchange, slots) {
    const found = await this.#store.load(Array.from(slots));
    found.forEach(({ bytes, version }, index) => exchange.provide(slots[index], bytes, version));
  }

  #write(exchange) {
    const writes = Array.from(exchange.written(), (slot) => ({
      slot,
      bytes: exchange.written_bytes(slot),
      version: exchange.written_version(slot),
    }));
    return this.#store.store(writes);
  }

  // An event after the request: it cannot be asked again.
  #event(exchange, ask) {
    return this.#store ? this.#stored(exchange, ask) : this.#heard(exchange, ask());
  }

  async #stored(exchange, ask) {
    try {
      const seen = exchange.seen();
      if (seen.length > 0) await this.#read(exchange, seen);
    } catch (error) {
      this.#say("error", `the rate store cannot be reached: ${error}`);
      exchange.away();
    }
    let flags = ask();
    if (flags & WRITTEN) {
      const stored = await this.#write(exchange).catch((error) => {
        this.#say("error", `the rate store cannot be reached: ${error}`);
      });
      flags = stored ? exchange.settle() : exchange.unsettled();
    }
    return this.#heard(exchange, flags);
  }

  // Holds the body back until it may pass; what passes before the end is inspected on its way.
  async #inspect(exchange, request) {
    const reader = request.body.getReader();
    const length = Number(request.headers.get("content-length") ?? Number.NaN);
    let held = [], size = 0, got = 0, flags = 0, ended = false;
    const next = async () => {
      const { done, value } = await reader.read();
      const chunk = done ? EMPTY : value;
      got += chunk.length;
      ended = done || got === length;
      if (size > 0 && size + chunk.length > this.#most) return "large";
      if (!done) held.push(chunk);
      size += chunk.length;
      const now = this.#now();
      flags = await this.#event(exchange, () => exchange.body(chunk, ended, now, this.#wall()));
      if (flags & REFUSED) return "refused";
      if (ended || !(flags & INSPECT) || flags & FLOW) return "pass";
      return size > this.#most ? "large" : "hold";
    };
    let word;
    do word = await next(); while (word === "hold");
    if (word === "refused") return { flags };
    if (word === "large") return { flags: 0, tooLarge: true };
    if (flags & REPLACED) return { flags, body: exchange.replaced() };
    if (ended) return { flags, body: joined(held, size) };
    let refuse;
    const late = new Promise((resolve) => (refuse = resolve));
    const flow = (controller) => {
      for (const chunk of held) controller.enqueue(chunk);
      (held = []), (size = 0);
    };
    let open = true;
    const over = () => {
      if (open) release(exchange);
      open = false;
    };
    retain(exchange);
    const gone = (error) => {
      over();
      throw error;
    };
    const body = new ReadableStream({
      start: flow,
      pull: async (controller) => {
        // Whoever reads it may give up while this waits, and whoever sends it may be gone.
        if (!(flags & INSPECT)) {
          const { done, value } = await reader.read().catch(gone);
          if (!open) return;
          if (!done) return controller.enqueue(value);
          over();
          return controller.close();
        }
        do word = await next().catch(gone); while (open && word === "hold");
        if (!open) return;
        if (word === "pass") {
          flow(controller);
          if (!ended) return;
          over();
          return controller.close();
        }
        // The application has a part of it, and never gets the rest.
        late.refused = word === "refused" ? refusal(exchange) : plain(413, "Payload Too Large");
        refuse(late.refused);
        over();
        controller.error(new Error("the request was refused"));
      },
      cancel: (reason) => {
        over();
        return reader.cancel(reason);
      },
    });
    return { flags, body, late };
  }

  // The response's headers leave, and with that the stream is over: one call, where nobody else is asked.
  #conclude(exchange, response, began) {
    const { status } = response, now = this.#now();
    const flags = exchange.conclude(answerOf(response), status, why(exchange, status), now - began, now, this.#wall());
    return this.#leave(exchange, response, this.#heard(exchange, flags));
  }

  async #concludeStored(exchange, response, began) {
    const { status } = response, head = answerOf(response);
    const flags = await this.#event(exchange, () => exchange.response(head, this.#now(), this.#wall()));
    response = this.#leave(exchange, response, flags);
    const now = this.#now();
    await this.#event(exchange, () => exchange.done(status, why(exchange, status), now - began, now, this.#wall()));
    return response;
  }

  #leave(exchange, response, flags) {
    if (flags & SUBSTITUTE && response.body) {
      response = new Response(response.body.pipeThrough(substitution(exchange)), response);
    }
    if (!(flags & RESPONSE)) return response;
    return answered(response, exchange.response_edits(), (number) => (this.#known[number] ??= this.#guard.known(number).split("\n")));
  }

  #deliver(context) {
    if (!this.#sink || !this.#owing) return;
    const sent = this.#send();
    context.waitUntil?.(sent);
  }

  #send() {
    // One batch at a time, so that they arrive in order. A sink may never answer: its promise may hang, or belong to a request
    // that the platform has ended. A timer would end with that too; so whoever comes next looks at the clock.
    if (this.#turn && this.#now() - this.#turn.since > PATIENCE) {
      this.#turn = undefined;
      this.#say("error", "audit records wait: the sink does not answer");
      this.#guard.delivered(0, EMPTY, this.#now(), this.#wall());
    }
    if (!this.#turn) {
      const turn = (this.#turn = { since: this.#now() });
      turn.done = this.#drain(turn).finally(() => {
        if (this.#turn === turn) this.#turn = undefined;
      });
    }
    return this.#turn.done;
  }

  async #drain(turn) {
    for (;;) {
      turn.since = this.#now();
      const batch = this.#sink && this.#guard.batch(this.#now(), this.#wall());
      if (!batch) {
        this.#owing = this.#guard.waiting() > 0;
        return;
      }
      let status = 0, body = EMPTY;
      try {
        ({ status, body } = await this.#sink(batch));
      } catch (error) {
        if (this.#turn === turn) this.#say("error", `audit records wait: ${error}`);
      }
      // Given up meanwhile: the batch is another turn's.
      if (this.#turn !== turn) return;
      this.#guard.delivered(status, body, this.#now(), this.#wall());
      if (status < 200 || status > 299) return;
    }
  }

  // What an event says besides what is to be done.
  #heard(exchange, flags) {
    if (flags & RECORDS) this.#owing = true;
    if (flags & LOG) {
      const said = exchange.log().split("\x1e");
      for (let at = 0; at + 1 < said.length; at += 2) this.#say(said[at], said[at + 1]);
    }
    return flags;
  }

  #say(level, text) {
    (this.#options.log ?? ((kind, line) => console[kind](`portcullis: ${line}`)))(level, text);
  }
}

/** A `fetch` handler behind the chain: further arguments, like `env` and `ctx` of a worker, are handed on. */
export function withPortcullis(handler, configuration, options) {
  const guard = new Portcullis(configuration, options);
  const guarded = (request, ...rest) => guard.handle(request, (passed) => handler(passed, ...rest), contextOf(rest));
  guarded.portcullis = guard;
  return guarded;
}

function why(exchange, status) {
  return status >= 500 && !exchange.refusedByUs ? UPSTREAM : OWN;
}

function contextOf(rest) {
  const context = rest[rest.length - 1];
  return context && typeof context.waitUntil === "function" ? context : {};
}
