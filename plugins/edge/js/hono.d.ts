import type { MiddlewareHandler } from "hono";
import type { Configuration, Options } from "@portcullis/edge";

/** Middleware for Hono: `app.use(portcullis(configuration, options))`. */
export function portcullis(configuration?: Configuration, options?: Options): MiddlewareHandler;
