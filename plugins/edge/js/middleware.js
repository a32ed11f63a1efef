/** Middleware for Hono around a guard of whichever build: this file imports none. */
export function portcullis(guard) {
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
