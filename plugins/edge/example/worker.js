// A worker behind Portcullis: an application of a few pages, limits that all isolates share, records on the console.
import { env } from "cloudflare:workers";
import { withPortcullis } from "@portcullis/edge";
import { PortcullisStore, durableStore } from "@portcullis/edge/durable-object";

export { PortcullisStore };

// What each answer replaces by a nonce of its own. Take one that nobody can guess: `openssl rand -hex 12`.
const NONCE = "portcullis-demonstration";

const configuration = {
  headers: { profile: env.PROFILE ?? "web", nonce: NONCE },
  actions: [{ name: "login", match: [{ method: "POST", path: "/login" }] }],
  rate_limit: { rules: [{ name: "logins", action: "login", limit: 5, window: "1m" }] },
  routes: [{ name: "logout", match: { path: "/logout" }, headers: { clear_site_data: ["cache", "cookies", "storage"] } }],
};

const script = '"use strict";\n';
// SHA-384 of the script (W3C, Subresource Integrity).
const integrity = "sha384-xkfRlW1o/12WPjFaNyRGWMTu+oSgZhrVjoOW5J3gH5+BR9iBauzFwFUOCOKARbI6";
const front = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Shop</title><link rel="stylesheet" href="/static/shop.css">
<script nonce="${NONCE}" src="/static/shop.js" integrity="${integrity}"></script></head>
<body><h1>Shop</h1></body>
</html>
`;

const html = "text/html; charset=utf-8";
const pages = {
  "/": [front, html],
  "/login": ["welcome", html],
  "/logout": ["good bye", html],
  "/search": ["nothing found", html],
  "/static/shop.css": ["body { font-family: sans-serif; }\n", "text/css"],
  "/static/shop.js": [script, "text/javascript"],
};

function application(request) {
  const [page, type] = pages[new URL(request.url).pathname] ?? [];
  if (!page) return new Response("not found", { status: 404 });
  return new Response(page, {
    headers: { "content-type": type, "x-powered-by": "example", "set-cookie": "theme=light; Path=/" },
  });
}

const store = durableStore(() => env.SLOTS.get(env.SLOTS.idFromName("slots")));

export default {
  fetch: withPortcullis(application, configuration, { store, audit: (lines) => console.log(lines.trim()) }),
};
