// node node.mjs PACKAGE CASES RESULTS
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { replay } from "./driver.js";

const [folder, cases, results] = process.argv.slice(2);
const edge = await import(pathToFileURL(`${folder}/full/node.js`));
writeFileSync(results, JSON.stringify(await replay(edge, JSON.parse(readFileSync(cases, "utf8")))));
