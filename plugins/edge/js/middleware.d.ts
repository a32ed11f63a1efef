import type { MiddlewareHandler } from "hono";
import type { Portcullis } from "./light/index.d.ts";

/** Middleware for Hono around a guard: `app.use(portcullis(new Portcullis(options)))`, of what `load` answers. */
export function portcullis(guard: Portcullis): MiddlewareHandler;
