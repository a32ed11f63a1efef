import { Portcullis } from "@portcullis/edge";
import { portcullis as around } from "./middleware.js";

/** Middleware for Hono: `app.use(portcullis(configuration, options))`. */
export const portcullis = (configuration, options) => around(new Portcullis(configuration, options));
