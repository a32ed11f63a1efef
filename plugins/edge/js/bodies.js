// Bodies, and who still needs what the module keeps of their request.
const EMPTY = new Uint8Array(0);

// Who still needs an exchange; the last one frees what the module keeps of it. What a stream that nobody reads to its end
// keeps goes when the stream is collected.
export function retain(exchange) {
  exchange.users = (exchange.users ?? 0) + 1;
  return exchange;
}

export function release(exchange) {
  exchange.users -= 1;
  if (exchange.users === 0) exchange.free();
}

// A text of the body gives way to another of the same length. What may be the beginning of one waits for the next piece.
export function substitution(exchange) {
  let carried = EMPTY;
  retain(exchange);
  return new TransformStream({
    transform(chunk, controller) {
      const piece = joined([carried, chunk], carried.length + chunk.length);
      const open = exchange.substitute(piece);
      carried = piece.slice(piece.length - open);
      if (open < piece.length) controller.enqueue(piece.subarray(0, piece.length - open));
    },
    flush(controller) {
      if (carried.length > 0) controller.enqueue(carried);
      release(exchange);
    },
  });
}

// The handler failed because its body was broken off: then the refusal is the answer.
export function settled(late, error) {
  if (late.refused) return late.refused;
  throw error;
}

export function joined(chunks, size) {
  if (chunks.length === 1) return chunks[0];
  const body = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body;
}
