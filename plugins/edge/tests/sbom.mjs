// node sbom.mjs FILE: a bill of materials, against CycloneDX's own schema, strictly.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Spec, Validation } from "@cyclonedx/cyclonedx-library";

const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot6);
const bill = readFileSync(process.argv[2], "utf8");
assert.equal(await validator.validate(bill), null);
// That the validator validates.
assert.notEqual(await validator.validate(bill.replace('"bomFormat"', '"bomFormut"')), null);
