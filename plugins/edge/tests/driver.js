// Replays cases in whatever runtime loads it: JSON in, JSON out. What a Request cannot say is named, with the reason.
const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const latin1 = (base64) => atob(base64);
const base64 = (data) => {
  let text = "";
  for (const byte of data) text += String.fromCharCode(byte);
  return btoa(text);
};
const pairs = (headers) => [...headers].map(([name, value]) => [btoa(name), btoa(value)]);

class Inexpressible extends Error {}

function headersOf(list) {
  const headers = new Headers();
  for (const [name, value] of list) {
    const known = headers.has(name);
    if (known && name.toLowerCase() !== "set-cookie") throw new Inexpressible("two headers of one name are one in Headers");
    try {
      headers.append(name, value);
    } catch {
      throw new Inexpressible("a header that Headers refuses");
    }
    if (!known && headers.get(name) !== value) throw new Inexpressible("spaces around a header's value");
  }
  return headers;
}

function requestOf({ headers, pieces }) {
  const all = headers.map(([name, value]) => [latin1(name), latin1(value)]);
  const pseudo = Object.fromEntries(all.filter(([name]) => name.startsWith(":")));
  const method = pseudo[":method"];
  const wanted = `${pseudo[":scheme"]}://${pseudo[":authority"]}${pseudo[":path"]}`;
  if (!URL.canParse(wanted) || new URL(wanted).href !== wanted || wanted.includes("#")) {
    throw new Inexpressible("a URL that URL writes in another way");
  }
  if (pieces.length > 0 && (method === "GET" || method === "HEAD")) throw new Inexpressible("a body of GET or HEAD");
  const body = pieces.length === 0 ? undefined : new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(bytes(piece));
      controller.close();
    },
  });
  const own = headersOf(all.filter(([name]) => !name.startsWith(":")));
  if (own.has("host")) throw new Inexpressible("a host beside the authority");
  let request;
  try {
    request = new Request(wanted, { method, headers: own, body, duplex: "half", redirect: "manual" });
  } catch {
    throw new Inexpressible("a method that Request refuses");
  }
  if (request.method !== method) throw new Inexpressible("a method that Request writes in another way");
  if ([...own].length !== [...request.headers].length) throw new Inexpressible("a header that Request drops");
  return request;
}

function responseOf({ status, headers, body }) {
  const list = headers.map(([name, value]) => [latin1(name), latin1(value)]);
  try {
    return new Response([101, 204, 205, 304].includes(status) ? null : bytes(body), { status, headers: headersOf(list) });
  } catch (error) {
    throw error instanceof Inexpressible ? error : new Inexpressible("a response that Response refuses");
  }
}

async function runCase({ Portcullis }, one) {
  let time = 0, records = [];
  const clock = { now: () => time, wall: () => one.epoch + time };
  const guard = new Portcullis(one.configuration, {
    clock,
    log: () => {},
    audit: (lines) => void records.push(...lines.split("\n").filter(Boolean)),
    clientAddress: () => one.source,
    facts: () => one.facts,
    environment: one.environment,
    ...(one.store ? { store: one.store } : {}),
  });
  const seen = [];
  let before = guard.metrics();
  for (const step of one.steps) {
    time = step.at ?? time;
    for (let turn = 0; turn < step.repeat; turn += 1) {
      const request = requestOf(step.request);
      responseOf(step.upstream);
      let upstream = null, upstreamBody = "";
      const response = await guard.handle(request, async (passed) => {
        const body = new Uint8Array(await passed.arrayBuffer());
        const [, scheme, authority, path] = /^([a-z]+):\/\/([^/]*)(.*)$/.exec(passed.url);
        upstream = [
          [":authority", authority], [":path", path], [":method", passed.method], [":scheme", scheme],
        ].map(([name, value]) => [btoa(name), btoa(value)]).concat(pairs(passed.headers));
        upstreamBody = base64(body);
        return responseOf(step.upstream);
      });
      const body = base64(new Uint8Array(await response.arrayBuffer()));
      await guard.flush();
      const after = guard.metrics();
      const metrics = {};
      for (const [name, value] of Object.entries(after)) {
        if (value !== (before[name] ?? 0)) metrics[name] = value - (before[name] ?? 0);
      }
      before = after;
      seen.push({ status: response.status, headers: pairs(response.headers), body, upstream, upstreamBody, records, metrics });
      records = [];
    }
  }
  return { seen };
}

export async function replay(edge, cases) {
  const results = [];
  for (const one of cases) {
    try {
      results.push(await runCase(edge, one));
    } catch (error) {
      results.push(error instanceof Inexpressible ? { inexpressible: error.message } : { failed: `${error.stack ?? error}` });
    }
  }
  return results;
}
