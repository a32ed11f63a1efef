//! A bill of materials (CycloneDX 1.6) of the modules and the npm package: every crate that is linked into them, with its
//! licence and the digest that crates.io knows it by. What runs at build time alone (compilers, macros) is not in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{super::cargo, VERSION};
use crate::layout::Layout;

/// What is published: crates, the target for which each is built, and the most features with which it is.
const ROOTS: [(&str, &str, &str); 2] = [
    ("portcullis-proxy-wasm", "wasm32-wasip1", "seal"),
    ("portcullis-edge", "wasm32-unknown-unknown", "default"),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

impl Package {
    fn reference(&self) -> String {
        reference(&self.name, &self.version)
    }
}

/// What is linked, by reference, and what it depends on.
type Found = BTreeMap<String, BTreeSet<String>>;

/// The bill, a JSON text.
///
/// # Errors
/// When cargo cannot tell what the modules are made of.
pub(super) fn of(layout: &Layout) -> Result<String> {
    let lock = fs::read_to_string(layout.root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let checksums = checksums(&lock);
    // Of a whole workspace, where the features that any member asks for are joined: what is linked, it cannot tell.
    let metadata = said(layout, &["metadata", "--format-version", "1", "--locked"])?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages: BTreeMap<String, &Package> =
        metadata.packages.iter().map(|package| (package.reference(), package)).collect();
    let mut found = Found::default();
    let mut tops = BTreeSet::new();
    for (root, target, features) in ROOTS {
        let tree = ["tree", "--locked", "--package", root, "--target", target, "--features", features];
        let shape =
            ["--edges", "normal,no-proc-macro", "--prefix", "depth", "--no-dedupe", "--format", " {p}"];
        tops.insert(collect(&said(layout, &[&tree[..], &shape].concat())?, &mut found)?);
    }
    let mut components = Vec::new();
    for reference in found.keys() {
        let package =
            packages.get(reference).with_context(|| format!("cargo metadata has no {reference}"))?;
        components.push(component(package, &checksums));
    }
    let top = format!("pkg:generic/portcullis@{VERSION}");
    found.insert(top.clone(), tops);
    let dependencies: Vec<Value> =
        found.into_iter().map(|(reference, on)| json!({"ref": reference, "dependsOn": on})).collect();
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": top, "name": "portcullis", "version": VERSION,
            "licenses": [{"expression": super::LICENSE}],
        }},
        "components": components,
        "dependencies": dependencies,
    });
    Ok(format!("{bill:#}\n"))
}

fn said(layout: &Layout, arguments: &[&str]) -> Result<String> {
    let output = cargo(layout).args(arguments).output().context("cargo does not run")?;
    ensure!(output.status.success(), "cargo {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Reads a tree, a crate a line behind its depth: `2 serde v1.0.0 (...)`. Answers the root's reference.
fn collect(tree: &str, found: &mut Found) -> Result<String> {
    let mut above: Vec<String> = Vec::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name), Some(version)) = (words.next(), words.next(), words.next()) else {
            bail!("cargo tree says `{line}`");
        };
        above.truncate(depth.parse().with_context(|| format!("cargo tree says `{line}`"))?);
        let reference = reference(name, version.trim_start_matches('v'));
        if let Some(parent) = above.last() {
            found.entry(parent.clone()).or_default().insert(reference.clone());
        }
        found.entry(reference.clone()).or_default();
        above.push(reference);
    }
    above.into_iter().next().context("cargo tree says nothing")
}

fn reference(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{version}")
}

fn component(package: &Package, checksums: &BTreeMap<(String, String), String>) -> Value {
    let mut component = Map::new();
    let mut add = |key: &str, value: Value| component.insert(key.to_owned(), value);
    add("type", "library".into());
    add("bom-ref", package.reference().into());
    add("name", package.name.clone().into());
    add("version", package.version.clone().into());
    add("purl", package.reference().into());
    if let Some(license) = &package.license {
        // Old manifests separate alternatives by a slash.
        add("licenses", json!([{"expression": license.replace('/', " OR ")}]));
    }
    let checksum = checksums.get(&(package.name.clone(), package.version.clone()));
    if let Some(checksum) = checksum.filter(|_| package.source.is_some()) {
        add("hashes", json!([{"alg": "SHA-256", "content": checksum}]));
    }
    Value::Object(component)
}

/// Name and version to the archive's SHA-256, as `Cargo.lock` has them.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut checksums = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let value = |key: &str| {
            let mut lines = package.lines().filter_map(|line| line.strip_prefix(key));
            lines.find_map(|rest| rest.strip_prefix(" = ")).map(|value| value.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (value("name"), value("version"), value("checksum"))
        {
            checksums.insert((name, version), checksum);
        }
    }
    checksums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_names_what_is_linked_and_nothing_that_only_builds() {
        let bill: Value = serde_json::from_str(&of(&Layout::of_this_checkout()).unwrap()).unwrap();
        let named = |name: &str| bill["components"].as_array().unwrap().iter().find(|c| c["name"] == name);
        let serde = named("serde_core").unwrap();
        assert_eq!(serde["hashes"][0]["content"].as_str().map(str::len), Some(64));
        assert_eq!(named("portcullis-sanitize").unwrap()["licenses"][0]["expression"], "Apache-2.0");
        assert!(named("wasm-bindgen").is_some() && named("proxy-wasm").is_some());
        // The last three describe configurations, in other programs.
        for builder in ["serde_derive", "syn", "tokio", "wasmtime", "schemars", "dyn-clone", "ref-cast"] {
            assert!(named(builder).is_none(), "{builder}");
        }
        let references: BTreeSet<&str> =
            bill["components"].as_array().unwrap().iter().filter_map(|c| c["bom-ref"].as_str()).collect();
        for dependency in bill["dependencies"].as_array().unwrap() {
            for on in dependency["dependsOn"].as_array().unwrap() {
                assert!(references.contains(on.as_str().unwrap()), "{on}");
            }
        }
    }

    #[test]
    fn a_tree_is_read_by_its_depths() {
        let mut found = Found::new();
        let tree = "0 a v1.0.0 (/a)\n1 b v2.0.0\n2 c v3.0.0\n1 c v3.0.0\n";
        assert_eq!(collect(tree, &mut found).unwrap(), "pkg:cargo/a@1.0.0");
        let on = |name: &str| found[name].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(on("pkg:cargo/a@1.0.0"), ["pkg:cargo/b@2.0.0", "pkg:cargo/c@3.0.0"]);
        assert_eq!(on("pkg:cargo/b@2.0.0"), ["pkg:cargo/c@3.0.0"]);
        assert!(on("pkg:cargo/c@3.0.0").is_empty());
        assert!(collect("", &mut found).is_err() && collect("x y", &mut found).is_err());
    }

    #[test]
    fn checksums_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ff\"\n\n[[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";
        let found = checksums(lock);
        assert_eq!(found.get(&("a".to_owned(), "1.0.0".to_owned())).map(String::as_str), Some("ff"));
        assert_eq!(found.len(), 1);
    }
}
