// Grades a site by Mozilla's HTTP Observatory, Google's CSP Evaluator and the expectations of OWASP's validator.
//
//   node scan.mjs FOLDER HTTPS_URL [HTTP_URL]
//
// FOLDER holds the installed packages of package.json beside this file. HTTP_URL is where the site answers plain HTTP, if it
// does: it should redirect. NODE_EXTRA_CA_CERTS=file names a certificate that is not publicly trusted. Prints JSON:
//
//   {"observatory": {"score", "grade", "tests": {name: {"result", "modifier"}}},
//    "csp": [{"severity", "directive", "value", "description"}],
//    "owasp": {"expectations": 17, "unmet": [name]},
//    "headers": {name: value}}
//
// The Observatory is not asked over the network: its own functions retrieve and judge the site. Its lists of preloaded
// hosts and of top-level domains, which its installer would download, are empty, so a site is never in the first one.

import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { EXPECTATIONS, unmet } from "./owasp.mjs";

const [folder, secure, plain] = process.argv.slice(2);
if (!secure?.startsWith("https://") || (plain && !plain.startsWith("http://"))) {
  console.error("usage: node scan.mjs FOLDER HTTPS_URL [HTTP_URL]");
  process.exit(2);
}

const packages = join(resolve(folder), "node_modules");
const observatory = (file) =>
  import(pathToFileURL(join(packages, "@mdn/mdn-http-observatory/src", file)).href);
const evaluator = (file) => createRequire(import.meta.url)(join(packages, "csp_evaluator/dist", file));

/** The Observatory's `scan`, which takes no ports: the same steps with the same functions. */
async function observe(secure, plain) {
  const [{ retrieve }, { ALL_TESTS }, grader, { MINIMUM_SCORE_FOR_EXTRA_CREDIT }] = await Promise.all(
    ["retriever/retriever.js", "constants.js", "grader/grader.js", "grader/charts.js"].map(observatory),
  );
  const site = await retrieve(secure.hostname, {
    httpsPort: secure.port || 443,
    httpPort: plain?.port || (plain ? 80 : secure.port || 443),
    path: secure.pathname,
  });
  if (site.responses.https?.status !== 200) {
    throw new Error(`${secure}: ${site.responses.https?.status ?? "no answer over HTTPS"}, expected 200`);
  }
  let [uncurved, score] = [100, 100];
  const tests = {};
  for (const test of ALL_TESTS) {
    const output = test(site);
    const modifier = output.result ? grader.getScoreModifier(output.result) : 0;
    score += modifier;
    uncurved += Math.min(modifier, 0);
    tests[output.constructor.name] = { result: output.result, modifier };
  }
  // Bonuses count only for who is good without them.
  const final = grader.getGradeForScore(uncurved >= MINIMUM_SCORE_FOR_EXTRA_CREDIT ? score : uncurved);
  return { judgement: { ...final, tests }, page: lowered(site.responses.https.headers) };
}

/** The headers of a logout. */
async function leave(url) {
  const answer = await fetch(url);
  if (answer.status !== 200) {
    throw new Error(`${url}: ${answer.status}, expected 200`);
  }
  return new Map(answer.headers);
}

function lowered(headers) {
  return new Map(Object.entries({ ...headers }).map(([name, value]) => [name.toLowerCase(), String(value)]));
}

function evaluate(policy) {
  const { CspEvaluator } = evaluator("evaluator.js");
  const { CspParser } = evaluator("parser.js");
  const { Severity } = evaluator("finding.js");
  return new CspEvaluator(new CspParser(policy).csp).evaluate().map(({ severity, directive, value, description }) => ({
    severity: Severity[severity],
    directive,
    value,
    description,
  }));
}

const [site, logout] = await Promise.all([
  observe(new URL(secure), plain && new URL(plain)),
  leave(new URL("/logout", secure)),
]);
const policy = site.page.get("content-security-policy");
const said = {
  observatory: site.judgement,
  csp: policy ? evaluate(policy) : [{ severity: "HIGH", description: "there is no policy" }],
  owasp: { expectations: EXPECTATIONS.length, unmet: unmet(site.page, logout) },
  headers: Object.fromEntries(site.page),
};
// The packages leave timers behind.
process.stdout.write(JSON.stringify(said), () => process.exit(0));
