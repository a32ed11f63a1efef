import { Portcullis } from "@portcullis/edge";

/** Middleware for Hono: `app.use(portcullis(configuration, options))`. */
export function portcullis(configuration, options) {
  const guard = new Portcullis(configuration, options);
  return async (c, next) => {
    let context = {};
    try {
      context = c.executionCtx;
    } catch {
      // Hono throws where the platform has none.
    }
    const handler = async (request) => {
      c.req.raw = request;
      await next();
      return c.res;
    };
    const response = await guard.handle(c.req.raw, handler, context);
    // Else Hono would lay the old headers over the new.
    c.res = undefined;
    c.res = response;
  };
}
