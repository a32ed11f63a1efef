// What the validator of OWASP's Secure Headers Project expects of a site: the 17 test cases of `tests_suite.yml` in
// https://github.com/oshp/oshp-validator (July 2025), one expectation each. All of them also expect the status 200.

const FEATURES = `accelerometer autoplay camera clipboard-read clipboard-write cross-origin-isolated display-capture
  encrypted-media fullscreen gamepad geolocation gyroscope hid idle-detection interest-cohort keyboard-map magnetometer
  microphone midi payment picture-in-picture publickey-credentials-get screen-wake-lock serial unload usb web-share
  xr-spatial-tracking`.split(/\s+/);

const is = (name, ...values) => [name, (page) => values.includes(page.get(name))];
const absent = (name) => [name, (page) => !page.has(name)];

/** Each expectation: the header's name, and whether a page and the answer of a logout meet it. */
export const EXPECTATIONS = [
  is(
    "strict-transport-security",
    "max-age=31536000; includeSubDomains",
    "max-age=31536000; includeSubDomains; preload",
  ),
  is("x-frame-options", "deny", "DENY"),
  is("x-content-type-options", "nosniff"),
  [
    "content-security-policy",
    (page) => page.has("content-security-policy") && !page.get("content-security-policy").includes("unsafe"),
  ],
  is("x-permitted-cross-domain-policies", "none"),
  is("referrer-policy", "no-referrer"),
  ["clear-site-data", (_, logout) => logout.get("clear-site-data") === '"cache","cookies","storage"'],
  is("cross-origin-embedder-policy", "require-corp"),
  is("cross-origin-opener-policy", "same-origin"),
  is("cross-origin-resource-policy", "same-origin"),
  [
    "permissions-policy",
    (page) => {
      const said = (page.get("permissions-policy") ?? "").split(",").map((part) => part.trim());
      const own = said.includes("sync-xhr=(self)") || said.includes("sync-xhr=()");
      return own && FEATURES.every((feature) => said.includes(`${feature}=()`));
    },
  ],
  is("cache-control", "no-store, max-age=0"),
  is("x-dns-prefetch-control", "off"),
  absent("feature-policy"),
  absent("public-key-pins"),
  absent("expect-ct"),
  absent("x-xss-protection"),
];

/** The names of the expectations that headers (by lower-case name) do not meet. */
export const unmet = (page, logout) =>
  EXPECTATIONS.filter(([, holds]) => !holds(page, logout)).map(([name]) => name);
