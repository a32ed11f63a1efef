// Requests and responses as the module is told of them, and what it wants changed of them.

// Names and values in turn, pseudo headers first, as `src/wire.rs` reads them.
export function headOf(request) {
  const { url } = request;
  const authority = url.indexOf("://") + 3;
  let path = url.indexOf("/", authority);
  if (path < 0) path = url.length;
  let end = url.indexOf("#", path);
  if (end < 0) end = url.length;
  let head =
    `:authority\n${url.slice(authority, path)}\n:path\n${url.slice(path, end) || "/"}\n` +
    `:method\n${request.method}\n:scheme\n${url.slice(0, authority - 3)}\n`;
  request.headers.forEach((value, name) => {
    if (name !== "host") head += `${name}\n${value}\n`;
  });
  return head;
}

// What is verified, as `src/facts.rs` reads it.
export function formOf({ jwtClaims = {}, verifiedBy = [], ...facts }) {
  const form = new URLSearchParams();
  const text = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
  for (const [name, value] of Object.entries(facts)) if (value != null) form.append(name, text(value));
  for (const [name, value] of Object.entries(jwtClaims ?? {})) if (value != null) form.append(`jwtClaims.${name}`, text(value));
  for (const filter of verifiedBy ?? []) form.append("verifiedBy", filter);
  return String(form);
}

// What the platform says of the connection. Only Cloudflare says it in a header that clients cannot set; what `cf` holds costs more
// than a header to look at.
export function address(request) {
  const said = request.headers.get("cf-connecting-ip");
  return said !== null && request.cf ? said : "";
}

// The response's, likewise.
export function answerOf(response) {
  let head = `:status\n${response.status}\n`;
  response.headers.forEach((value, name) => {
    head += `${name}\n${value}\n`;
  });
  return head;
}

// The request with its edits. A path is no header here: it is part of what cannot be changed, only made anew.
export function changed(request, edits) {
  const lines = edits.split("\n");
  // Names stand in every other line; a value may look like one.
  const at = lines.findIndex((line, index) => index % 2 === 0 && line === "s:path");
  const [, path] = at < 0 ? [] : lines.splice(at, 2);
  const copy = path === undefined ? new Request(request) : new Request(new URL(request.url).origin + path, request);
  apply(copy.headers, lines);
  return copy;
}

function apply(headers, lines) {
  for (let at = 0; at + 1 < lines.length; at += 2) edit(headers, lines[at], lines[at + 1]);
}

function edit(headers, what, value) {
  const name = what.slice(1);
  switch (what.charCodeAt(0)) {
    case 115: headers.set(name, value); break;
    case 97: headers.append(name, value); break;
    default: headers.delete(name);
  }
}

// The response with its edits, which may be numbers of edits that `recall` knows: what the configuration sets is the same each
// time, and costs most where it crosses from one memory to another.
export function answered(response, edits, recall) {
  const lines = edits.split("\n");
  const each = (headers) => {
    for (let at = 0; at + 1 < lines.length; at += 1) {
      const line = lines[at];
      if (line.charCodeAt(0) === 35) edit(headers, ...recall(Number(line.slice(1))));
      else edit(headers, line, lines[(at += 1)]);
    }
  };
  try {
    each(response.headers);
    return response;
  } catch {
    // What came from `fetch` cannot be changed, only copied.
    const copy = new Response(response.body, response);
    each(copy.headers);
    return copy;
  }
}

export function refusal(exchange) {
  const [status, ...lines] = exchange.reply().split("\n");
  const body = exchange.reply_body();
  const headers = new Headers();
  for (let at = 0; at + 1 < lines.length; at += 2) headers.append(lines[at], lines[at + 1]);
  exchange.refusedByUs = true;
  // An answer below 400, like one to a preflight, has no body, and some statuses may not even have an empty one.
  if (body.length === 0) return new Response(null, { status: Number(status), headers });
  headers.set("content-length", String(body.length));
  return new Response(body, { status: Number(status), headers });
}

// An answer of the adapter's own.
export function plain(status, text) {
  return new Response(text, {
    status,
    headers: { "content-length": String(text.length), "content-type": "text/plain" },
  });
}
