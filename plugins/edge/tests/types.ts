// Compiled, never run: that the types fit what users write.
import { Hono } from "hono";
import { MemoryStore, Portcullis, withPortcullis, type Options } from "@portcullis/edge";
import { withPortcullis as light } from "@portcullis/edge/light";
import { load } from "@portcullis/edge/compiled";
import { portcullis } from "@portcullis/edge/hono";
import { portcullis as lightly } from "@portcullis/edge/light/hono";
import { portcullis as around } from "@portcullis/edge/compiled/hono";

const options: Options = { store: new MemoryStore(), audit: { url: "https://companion.test", token: "t" }, environment: { KEY: "k" } };
type Env = { NAME: string };
export default {
  fetch: withPortcullis((request: Request, env: Env) => new Response(env.NAME + request.url), { headers: { profile: "web" } }, options),
};
export const guarded: (request: Request) => Promise<Response> = light(() => new Response(), "{}");
export const compiled: (request: Request, env: Env) => Promise<Response> = load(new Uint8Array()).withPortcullis(
  (request: Request, env: Env) => new Response(env.NAME + request.url),
  options,
);
export const counted: Record<string, number> = new Portcullis().metrics();
new Hono().use(portcullis({}, options)).use(lightly("{}", options)).use(around(new (load(new Uint8Array()).Portcullis)(options)));
// @ts-expect-error a store must load and store
withPortcullis(() => new Response(), {}, { store: {} });
