/** The configuration document, the same as a proxy's; its JSON Schema is published with the project. */
export type Configuration = string | Record<string, unknown>;

/** What the platform has verified of a request. Never fill this from what a client sends. */
export interface Facts {
  /** Claims of a token that was verified. */
  jwtClaims?: Record<string, string | number | boolean>;
  /** The subject of a client certificate that was verified, like `CN=app,O=acme`. */
  peerSubject?: string;
  /** Full names of what ran before, for headers of which the configuration says `set_by`. */
  verifiedBy?: string[];
  routeName?: string;
  virtualHost?: string;
  /** Sections laid over the route's, a JSON text; the builds without sanitize read none, log that and count it. */
  routeMetadata?: string;
}

/** Where isolates share the slots of rate limits: an object that compares and swaps, like a Durable Object. */
export interface Store {
  /**
   * The slots' contents, in the order asked for. A slot that was never written has no bytes and version 0, but
   * `SEED_SLOT`: that one has 8 random bytes, drawn once and kept, and version 1.
   */
  load(slots: number[]): Promise<{ bytes: Uint8Array; version: number }[]>;
  /** Stores all if each slot still has its version, and raises the versions by one; else nothing, and answers false. */
  store(writes: { slot: number; bytes: Uint8Array; version: number }[]): Promise<boolean>;
}

/** What a platform hands a worker besides the request. */
export interface Context {
  waitUntil?(promise: Promise<unknown>): void;
}

export interface Options {
  /** Left out: each isolate limits for itself. */
  store?: Store;
  /** Takes audit records, JSON lines: a function, or a companion's ingest listener. Left out: they are only counted.
   * What has not answered after 30 seconds is given up, and handed the same lines again later: they may come twice. */
  audit?:
    | ((lines: string) => void | Promise<void>)
    | { url: string | URL; token?: string; fetch?: typeof fetch };
  /** The client's `address:port`. Left out: what Cloudflare says, elsewhere nothing. */
  clientAddress?(request: Request, context: Context): string | undefined;
  /** Variables that the configuration may name as the place of a secret, like the key of CSRF tokens. */
  environment?: Record<string, string>;
  facts?(request: Request, context: Context): Facts | undefined;
  /** Bytes of a body that wait for a verdict, 1 MiB if left out; more is answered 413. */
  maxHeldBytes?: number;
  /** Left out: the console. */
  log?(level: "debug" | "info" | "warn" | "error", text: string): void;
  /** Milliseconds: a clock that never goes back, and one since 1970. For tests. */
  clock?: { now(): number; wall(): number };
}

export class Portcullis {
  /** Throws an error that names every problem of the configuration with path and remedy. */
  constructor(configuration?: Configuration, options?: Options);
  readonly warnings: string[];
  metrics(): Record<string, number>;
  handle(
    request: Request,
    handler: (request: Request) => Response | Promise<Response>,
    context?: Context,
  ): Promise<Response>;
  /** Delivers the records that wait; answers how many still do. */
  flush(): Promise<number>;
}

export function withPortcullis<Rest extends unknown[]>(
  handler: (request: Request, ...rest: Rest) => Response | Promise<Response>,
  configuration?: Configuration,
  options?: Options,
): ((request: Request, ...rest: Rest) => Promise<Response>) & { portcullis: Portcullis };

export class MemoryStore implements Store {
  load(slots: number[]): Promise<{ bytes: Uint8Array; version: number }[]>;
  store(writes: { slot: number; bytes: Uint8Array; version: number }[]): Promise<boolean>;
}

export const SEED_SLOT: number;
