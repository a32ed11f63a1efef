// Where records go: a function, or a companion's ingest listener.
const EMPTY = new Uint8Array(0);
// Of an answer: more says nothing that counts.
const SINK_BYTES = 4096;
// Milliseconds for a companion to answer, body included.
const ANSWER = 10_000;

export function sink(audit) {
  if (!audit) return undefined;
  if (typeof audit === "function") {
    const decoder = new TextDecoder();
    return async (batch) => {
      await audit(decoder.decode(batch));
      return { status: 200, body: EMPTY };
    };
  }
  const headers = { "content-type": "application/x-ndjson" };
  if (audit.token) headers.authorization = `Bearer ${audit.token}`;
  return async (batch) => {
    const signal = AbortSignal.timeout(ANSWER);
    const answer = await (audit.fetch ?? fetch)(new URL("/v1/ingest", audit.url), { method: "POST", headers, body: batch, signal });
    return { status: answer.status, body: new Uint8Array(await answer.arrayBuffer()).subarray(0, SINK_BYTES) };
  };
}
