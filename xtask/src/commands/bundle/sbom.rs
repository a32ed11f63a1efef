//! A bill of materials (CycloneDX 1.6) of the modules and the npm package: every crate that is linked into them, with its
//! licence and the digest that crates.io knows it by. What runs at build time alone (compilers, macros) is not in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{super::cargo, VERSION};
use crate::layout::Layout;

/// What is published: crates, and the target for which each is built.
const ROOTS: [(&str, &str); 2] =
    [("portcullis-proxy-wasm", "wasm32-wasip1"), ("portcullis-edge", "wasm32-unknown-unknown")];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Package {
    fn reference(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }

    fn is_macro(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// None: a normal dependency.
    kind: Option<String>,
}

/// Everything that was found, by reference.
#[derive(Default)]
struct Found {
    components: BTreeMap<String, Value>,
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

/// The bill, a JSON text.
///
/// # Errors
/// When cargo cannot tell what the modules are made of.
pub(super) fn of(layout: &Layout) -> Result<String> {
    let lock = fs::read_to_string(layout.root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let checksums = checksums(&lock);
    let mut found = Found::default();
    let mut tops = BTreeSet::new();
    for (root, target) in ROOTS {
        let mut command = cargo(layout);
        command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target]);
        let output = command.output().context("cargo does not run")?;
        anyhow::ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
        tops.insert(collect(&metadata, root, &checksums, &mut found)?);
    }
    let top = format!("pkg:generic/portcullis@{VERSION}");
    found.dependencies.insert(top.clone(), tops);
    let dependencies: Vec<Value> = found
        .dependencies
        .into_iter()
        .map(|(reference, on)| json!({"ref": reference, "dependsOn": on}))
        .collect();
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": top, "name": "portcullis", "version": VERSION,
            "licenses": [{"expression": super::LICENSE}],
        }},
        "components": found.components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies,
    });
    Ok(format!("{bill:#}\n"))
}

/// Walks from a root over everything that is linked into it; answers the root's reference.
fn collect(
    metadata: &Metadata,
    root: &str,
    checksums: &BTreeMap<(String, String), String>,
    found: &mut Found,
) -> Result<String> {
    let packages: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let root = metadata.packages.iter().find(|package| package.name == root);
    let root = root.with_context(|| "cargo metadata does not know a crate of this workspace")?;
    let mut waiting = vec![root];
    let mut seen = BTreeSet::new();
    while let Some(package) = waiting.pop() {
        if !seen.insert(&package.id) {
            continue;
        }
        let node = nodes.get(package.id.as_str()).context("cargo metadata names a crate without a node")?;
        let linked: Vec<&Package> = node
            .deps
            .iter()
            .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()))
            .filter_map(|dependency| packages.get(dependency.pkg.as_str()).copied())
            .filter(|package| !package.is_macro())
            .collect();
        found.components.insert(package.reference(), component(package, checksums));
        let on = linked.iter().map(|package| package.reference());
        found.dependencies.entry(package.reference()).or_default().extend(on);
        waiting.extend(linked);
    }
    Ok(root.reference())
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
        for builder in ["serde_derive", "syn", "tokio", "wasmtime"] {
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
    fn checksums_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ff\"\n\n[[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";
        let found = checksums(lock);
        assert_eq!(found.get(&("a".to_owned(), "1.0.0".to_owned())).map(String::as_str), Some("ff"));
        assert_eq!(found.len(), 1);
    }
}
