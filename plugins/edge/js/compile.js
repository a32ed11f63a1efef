#!/usr/bin/env node
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { compiled } from "./compiler.js";

const HELP = `usage: portcullis-compile CONFIGURATION.json MODULE.wasm

Compiles a configuration into a WebAssembly module for @portcullis/edge/compiled:

  import module from "./guard.wasm";
  import { load } from "@portcullis/edge/compiled";
  const { withPortcullis } = load(module);
  export default { fetch: withPortcullis(handler) };

The same configuration gives the same bytes. Exit codes: 0 written, 1 the configuration cannot be used or a file cannot be
read or written, 2 wrong usage.`;

const [, , from, to, ...rest] = process.argv;
if (from === "--help" || from === "-h") {
  console.log(HELP);
} else if (!from || !to || rest.length > 0) {
  console.error(HELP);
  process.exitCode = 2;
} else {
  try {
    const { module, warnings } = compiled(readFileSync(from, "utf8"));
    if (warnings !== "") console.error(warnings.replace(/^/gm, "warning: "));
    // All or nothing.
    writeFileSync(`${to}.new`, module);
    renameSync(`${to}.new`, to);
    console.error(`${to}: ${module.length} bytes`);
  } catch (error) {
    console.error(`portcullis-compile: ${error.message}`);
    process.exitCode = 1;
  }
}
