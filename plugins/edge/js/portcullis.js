// The guard: an application's handler behind the chain. What is decided is decided in the module; here are streams,
// promises, time and delivery.
import { Guard, compile } from "./wasm/portcullis.js";

// As `flag` in src/exchange.rs.
const REQUEST = 1, RESPONSE = 2, INSPECT = 4, FLOW = 8, REFUSED = 16, REPLACED = 32, LOG = 64, RECORDS = 128;
const MISSING = 256, WRITTEN = 512, SUBSTITUTE = 1024;

const EMPTY = new Uint8Array(0);
const ATTEMPTS = 8;
const SINK_BYTES = 4096;

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
  #delivering;
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
    let response, details = "";
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
      await this.#event(exchange, () => exchange.done(-1, "handler_failed", this.#now() - began, this.#now(), this.#wall()));
      this.#deliver(context);
      throw error;
    }
    response = await this.#respond(exchange, response);
    if (response.status >= 500) details = "via_upstream";
    const now = this.#now();
    await this.#event(exchange, () => exchange.done(response.status, exchange.refusedByUs ? "" : details, now - began, now, this.#wall()));
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

  async #respond(exchange, response) {
    let head = `:status\n${response.status}\n`;
    response.headers.forEach((value, name) => {
      head += `${name}\n${value}\n`;
    });
    const now = this.#now();
    const flags = await this.#event(exchange, () => exchange.response(head, now, this.#wall()));
    if (flags & SUBSTITUTE && response.body) {
      response = new Response(response.body.pipeThrough(substitution(exchange)), response);
    }
    if (!(flags & RESPONSE)) return response;
    const edits = exchange.response_edits().split("\n");
    try {
      apply(response.headers, edits);
      return response;
    } catch {
      // What came from `fetch` cannot be changed, only copied.
      const copy = new Response(response.body, response);
      apply(copy.headers, edits);
      return copy;
    }
  }

  #deliver(context) {
    if (!this.#sink || !this.#owing) return;
    const sent = this.#send();
    context.waitUntil?.(sent);
  }

  #send() {
    // One batch at a time, so that they arrive in order.
    this.#delivering ??= this.#drain().finally(() => (this.#delivering = undefined));
    return this.#delivering;
  }

  async #drain() {
    for (;;) {
      const batch = this.#sink && this.#guard.batch(this.#now(), this.#wall());
      if (!batch) {
        this.#owing = this.#guard.waiting() > 0;
        return;
      }
      let status = 0, body = EMPTY;
      try {
        ({ status, body } = await this.#sink(batch));
      } catch (error) {
        this.#say("error", `audit records wait: ${error}`);
      }
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

/** The slot of the seed; see `Store` in the types. */
export const SEED_SLOT = 135_168;

function contextOf(rest) {
  const context = rest[rest.length - 1];
  return context && typeof context.waitUntil === "function" ? context : {};
}

// Names and values in turn, pseudo headers first, as `src/wire.rs` reads them.
function headOf(request) {
  const { url } = request;
  const authority = url.indexOf("://") + 3;
  let path = url.indexOf("/", authority);
  if (path < 0) path = url.length;
  let end = url.indexOf("#", path);
  if (end < 0) end = url.length;
  let head =
    `:authority\n${url.slice(authority, path)}\n:path\n${url.slice(path, end) || "/"}\n` +
    `:method\n${request.method}\n:scheme\n${url.slice(0, authority - 3)}\n`;
  request.headers.forEach((value, name) => {
    if (name !== "host") head += `${name}\n${value}\n`;
  });
  return head;
}

// What is verified, as `src/facts.rs` reads it.
function formOf({ jwtClaims = {}, verifiedBy = [], ...facts }) {
  const form = new URLSearchParams();
  const text = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
  for (const [name, value] of Object.entries(facts)) if (value != null) form.append(name, text(value));
  for (const [name, value] of Object.entries(jwtClaims ?? {})) if (value != null) form.append(`jwtClaims.${name}`, text(value));
  for (const filter of verifiedBy ?? []) form.append("verifiedBy", filter);
  return String(form);
}

// What the platform says of the connection. Only Cloudflare says it in a header that clients cannot set.
function address(request) {
  return request.cf ? request.headers.get("cf-connecting-ip") ?? "" : "";
}

// The request with its edits. A path is no header here: it is part of what cannot be changed, only made anew.
function changed(request, edits) {
  const lines = edits.split("\n");
  // Names stand in every other line; a value may look like one.
  const at = lines.findIndex((line, index) => index % 2 === 0 && line === "s:path");
  const [, path] = at < 0 ? [] : lines.splice(at, 2);
  const copy = path === undefined ? new Request(request) : new Request(new URL(request.url).origin + path, request);
  apply(copy.headers, lines);
  return copy;
}

function apply(headers, lines) {
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const name = lines[at].slice(1);
    switch (lines[at].charCodeAt(0)) {
      case 115: headers.set(name, lines[at + 1]); break;
      case 97: headers.append(name, lines[at + 1]); break;
      default: headers.delete(name);
    }
  }
}

function refusal(exchange) {
  const [status, ...lines] = exchange.reply().split("\n");
  const body = exchange.reply_body();
  const headers = new Headers();
  for (let at = 0; at + 1 < lines.length; at += 2) headers.append(lines[at], lines[at + 1]);
  exchange.refusedByUs = true;
  // An answer below 400, like one to a preflight, has no body, and some statuses may not even have an empty one.
  if (body.length === 0) return new Response(null, { status: Number(status), headers });
  headers.set("content-length", String(body.length));
  return new Response(body, { status: Number(status), headers });
}

// Who still needs an exchange; the last one frees what the module keeps of it. What a stream that nobody reads to its end
// keeps goes when the stream is collected.
function retain(exchange) {
  exchange.users = (exchange.users ?? 0) + 1;
  return exchange;
}

function release(exchange) {
  exchange.users -= 1;
  if (exchange.users === 0) exchange.free();
}

// A text of the body gives way to another of the same length. What may be the beginning of one waits for the next piece.
function substitution(exchange) {
  let carried = EMPTY;
  retain(exchange);
  return new TransformStream({
    transform(chunk, controller) {
      const piece = joined([carried, chunk], carried.length + chunk.length);
      const open = exchange.substitute(piece);
      carried = piece.slice(piece.length - open);
      if (open < piece.length) controller.enqueue(piece.subarray(0, piece.length - open));
    },
    flush(controller) {
      if (carried.length > 0) controller.enqueue(carried);
      release(exchange);
    },
  });
}

function plain(status, text) {
  return new Response(text, {
    status,
    headers: { "content-length": String(text.length), "content-type": "text/plain" },
  });
}

// The handler failed because its body was broken off: then the refusal is the answer.
function settled(late, error) {
  if (late.refused) return late.refused;
  throw error;
}

function joined(chunks, size) {
  if (chunks.length === 1) return chunks[0];
  const body = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body;
}

// Where records go: a function, or a companion's ingest listener.
function sink(audit) {
  if (!audit) return undefined;
  if (typeof audit === "function") {
    const decoder = new TextDecoder();
    return async (batch) => {
      await audit(decoder.decode(batch));
      return { status: 200, body: EMPTY };
    };
  }
  const headers = { "content-type": "application/x-ndjson" };
  if (audit.token) headers.authorization = `Bearer ${audit.token}`;
  return async (batch) => {
    const answer = await (audit.fetch ?? fetch)(new URL("/v1/ingest", audit.url), { method: "POST", headers, body: batch });
    return { status: answer.status, body: new Uint8Array(await answer.arrayBuffer()).subarray(0, SINK_BYTES) };
  };
}
