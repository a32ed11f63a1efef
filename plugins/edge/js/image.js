// Writes a module's memory down: what a compilation has left there becomes the data of a module that needs no compiler.
// The format is WebAssembly's own (core specification 2.0, 5.5); sections that do not matter here pass as they are.

const CUSTOM = 0, MEMORY = 5, GLOBALS = 6, DATA_COUNT = 12, DATA = 11;
const PAGE = 65536;
// A run of so many zeros costs less as a gap between two segments than as bytes.
const GAP = 12;

/** The custom section that names the build. */
export const SECTION = "portcullis";

/** The module with that memory as its data, and a section that names the build of which both are. */
export function withImage(module, memory, build) {
  const start = bottom(module);
  const segments = runs(new Uint8Array(memory), start);
  const parts = [module.subarray(0, 8)];
  for (const { id, from, to, whole } of sections(module)) {
    if (id === MEMORY) parts.push(section(id, grown(module.subarray(from, to), memory.byteLength / PAGE)));
    else if (id === DATA_COUNT) parts.push(section(id, unsigned(segments.length)));
    else if (id === DATA) parts.push(section(id, data(new Uint8Array(memory), segments)));
    else parts.push(module.subarray(whole, to));
  }
  const [name, content] = [SECTION, build].map((text) => new TextEncoder().encode(text));
  return joined([...parts, section(CUSTOM, joined([unsigned(name.length), name, content]))]);
}

function* sections(module) {
  for (let at = 8; at < module.length; ) {
    const whole = at, id = module[at];
    const [length, from] = read(module, at + 1);
    at = from + length;
    yield { id, whole, from, to: at };
  }
}

// Where the stack ends and what is kept begins: the stack grows down from there, and is empty between calls.
function bottom(module) {
  const globals = [...sections(module)].find(({ id }) => id === GLOBALS);
  // One or more; the first is the stack pointer, a variable (1) of type i32 (0x7f), with a constant (0x41).
  const [, at] = read(module, globals.from);
  if (module[at] !== 0x7f || module[at + 1] !== 1 || module[at + 2] !== 0x41) throw new Error("the module has no stack pointer");
  return read(module, at + 3)[0];
}

// The memory's limits, with at least so many pages at the start.
function grown(body, pages) {
  const [count, at] = read(body, 0);
  if (count !== 1) throw new Error("the module has not one memory");
  const [, after] = read(body, at + 1);
  return joined([body.subarray(0, at + 1), unsigned(pages), body.subarray(after)]);
}

// What is not zero, as pairs of where it begins and ends.
function runs(memory, start) {
  const found = [];
  for (let at = start; at < memory.length; at += 1) {
    if (memory[at] === 0) continue;
    const last = found.at(-1);
    if (last && at - last[1] < GAP) last[1] = at + 1;
    else found.push([at, at + 1]);
  }
  return found;
}

function data(memory, segments) {
  const parts = [unsigned(segments.length)];
  for (const [from, to] of segments) {
    parts.push([0, 0x41], signed(from), [0x0b], unsigned(to - from), memory.subarray(from, to));
  }
  return joined(parts);
}

const section = (id, body) => joined([[id], unsigned(body.length), body]);

// LEB128.
function read(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7, at += 1) {
    value += (bytes[at] & 127) * 2 ** shift;
    if (bytes[at] < 128) return [value, at + 1];
  }
}

function unsigned(value) {
  const out = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return [...out, value];
}

// The sign is the seventh bit of the last byte: a number that has it set takes one byte more.
function signed(value) {
  const out = unsigned(value);
  if (out.at(-1) > 63) out.push(out.pop() | 128, 0);
  return out;
}

function joined(parts) {
  const out = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
