//! What `make bundle` writes: the same bytes each time, and digests that are those of what they name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use xtask::{
    commands::{bundle, edge, install},
    layout::Layout,
};

const IMAGE: &str = "registry.test:5000/guards/portcullis";

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Texts of panics name sources: by where they lie in the project, in cargo's home and in the toolchain, wherever those are.
#[test]
fn no_module_tells_of_the_machine_that_built_it() {
    let layout = Layout::of_this_checkout();
    let checkout = layout.root().display().to_string();
    let told = ["/home/", ".rustup", ".cargo/registry", &checkout];
    let mut modules = 0;
    for (path, bytes) in files(&layout.dist()) {
        // What is tested alone is not published.
        if path.extension().is_none_or(|extension| extension != "wasm") || path.starts_with("test") {
            continue;
        }
        for place in told {
            let found = bytes.windows(place.len()).any(|part| part == place.as_bytes());
            assert!(!found, "{} tells {place}", path.display());
        }
        modules += 1;
    }
    assert!(modules >= 11, "{modules} modules");
}

#[test]
fn two_bundles_of_the_same_sources_are_the_same_bytes() {
    let layout = Layout::of_this_checkout();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = folders.each_ref().map(|folder| {
        bundle::assemble(&layout, IMAGE, folder.path()).unwrap();
        files(folder.path())
    });
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(other.get(path) == Some(bytes), "{} differs", path.display());
    }
    let text = |path: &str| String::from_utf8(one[Path::new(path)].clone()).unwrap();

    // Sums, as `sha256sum --check` reads them.
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(folders[0].path())
        .output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let named: Vec<String> =
        text("SHA256SUMS").lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect();
    for wanted in
        ["portcullis.wasm", "portcullis-headers.wasm", "portcullis-restricted.wasm", "sbom.cdx.json"]
    {
        assert!(named.iter().any(|name| name == wanted), "{wanted} is not in {named:?}");
    }
    assert!(named.iter().any(|name| name.starts_with("portcullis-edge-") && name.ends_with(".tgz")));
    let summed: BTreeSet<&Path> = named.iter().map(Path::new).collect();
    let written = one.keys().map(PathBuf::as_path).filter(|path| *path != Path::new("SHA256SUMS"));
    assert_eq!(summed, written.collect(), "every file but the sums has one");

    // The meshes' files name the image by the digest that the layout has of it.
    let index: Value = serde_json::from_str(&text("oci/index.json")).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    for file in ["manifests/mesh/istio-wasmplugin.yaml", "manifests/mesh/envoy-gateway-extension-policy.yaml"]
    {
        assert!(text(file).contains(&format!("{IMAGE}@{digest}")), "{file}");
    }
    assert_eq!(
        portcullis_image::digest(&one[Path::new("oci/blobs/sha256").join(&digest[7..]).as_path()]),
        digest
    );

    // The bill of materials, by CycloneDX's own schema.
    let mut validate = Command::new(install::node(&layout).unwrap());
    validate.arg(edge::stage(&layout).unwrap().join("sbom.mjs")).arg(folders[0].path().join("sbom.cdx.json"));
    let validated = validate.output().unwrap();
    assert!(validated.status.success(), "{}", String::from_utf8_lossy(&validated.stderr));
}
