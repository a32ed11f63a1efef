// A worker behind Portcullis: an application of three pages, limits that all isolates share, records on the console.
import { env } from "cloudflare:workers";
import { withPortcullis } from "@portcullis/edge";
import { PortcullisStore, durableStore } from "@portcullis/edge/durable-object";

export { PortcullisStore };

const configuration = {
  headers: { profile: "web" },
  actions: [{ name: "login", match: [{ method: "POST", path: "/login" }] }],
  rate_limit: { rules: [{ name: "logins", action: "login", limit: 5, window: "1m" }] },
};

const pages = { "/": "<!doctype html><title>Shop</title><h1>Shop</h1>", "/login": "welcome", "/search": "nothing found" };

function application(request) {
  const page = pages[new URL(request.url).pathname];
  return page
    ? new Response(page, { headers: { "content-type": "text/html; charset=utf-8", "x-powered-by": "example" } })
    : new Response("not found", { status: 404 });
}

const store = durableStore(() => env.SLOTS.get(env.SLOTS.idFromName("slots")));

export default {
  fetch: withPortcullis(application, configuration, { store, audit: (lines) => console.log(lines.trim()) }),
};
