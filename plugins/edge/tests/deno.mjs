// deno run --allow-read --allow-write deno.mjs PACKAGE CASES RESULTS
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { replay } from "./driver.js";

const [folder, cases, results] = Deno.args;
const edge = await import(pathToFileURL(`${folder}/full/deno.js`));
writeFileSync(results, JSON.stringify(await replay(edge, JSON.parse(readFileSync(cases, "utf8")))));
