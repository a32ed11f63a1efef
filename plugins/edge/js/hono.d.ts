import type { MiddlewareHandler } from "hono";
import type { Configuration, Options } from "./light/index.d.ts";

/** Middleware for Hono: `app.use(portcullis(configuration, options))`. */
export function portcullis(configuration?: Configuration, options?: Options): MiddlewareHandler;
