//! The module as an OCI image, and image layouts on disk: what `make bundle` writes and `portcullis push` sends.
//!
//! Meshes accept a module in two shapes ([`Image::layer`], [`Image::artifact`]), both described by the Wasm Image Specification
//! (<https://github.com/solo-io/wasm/tree/master/spec>). A layout is a folder with `oci-layout`, `index.json` and
//! `blobs/sha256/` (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).
//!
//! Nothing here depends on the time, the machine or the order of a folder: the same module gives the same bytes, and so the
//! same digest. What is read is believed only as far as its digest goes, and is bounded: a manifest of [`MANIFEST_BYTES`], a
//! blob of [`BLOB_BYTES`], [`BLOBS`] of them; beyond that it is an error.
//!
//! It does not sign: a digest in a manifest says which bytes are meant, and not who made them.

mod archive;
mod layout;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use archive::archive;
pub use layout::{LayoutError, read, write};

/// The most that a manifest or an index may have.
pub const MANIFEST_BYTES: u64 = 4 << 20;
/// The most that a blob may have. Hosts take modules of some MiB.
pub const BLOB_BYTES: u64 = 256 << 20;
/// The most blobs that an image may name.
pub const BLOBS: usize = 128;

/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const WASM_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";
const WASM_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
/// The name that hosts look for in a layer.
const FILE: &str = "plugin.wasm";

/// What a manifest or an index says of other bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Annotations {
    #[serde(default, rename = "org.opencontainers.image.ref.name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Bytes, and the digest that names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Names bytes by their digest.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }

    fn described(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// What an image says of itself, for those who list a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Like `portcullis`.
    pub title: String,
    /// Like `0.1.0`.
    pub version: String,
    /// An SPDX expression.
    pub licenses: String,
}

impl Release {
    fn annotations(&self) -> Value {
        json!({
            "org.opencontainers.image.licenses": self.licenses,
            "org.opencontainers.image.title": self.title,
            "org.opencontainers.image.version": self.version,
        })
    }
}

/// An image: its manifest, and all that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What it is called within its layout.
    pub name: String,
    /// The manifest.
    pub manifest: Blob,
    /// Configuration and layers, in the order in which the manifest names them.
    pub blobs: Vec<Blob>,
}

impl Image {
    /// A container image whose one layer holds `plugin.wasm`: the shape that every registry and every mesh takes.
    #[must_use]
    pub fn layer(name: &str, module: &[u8], release: &Release) -> Self {
        let tar = archive::tar(&[(FILE, module)]);
        let layer = Blob::new(archive::gzip(&tar));
        let config = json!({
            "architecture": "wasm",
            "os": "wasi",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]},
        });
        let config = Blob::new(config.to_string().into_bytes());
        Self::new(name, release, &config.described(CONFIG), &[layer.described(LAYER)], vec![config, layer])
    }

    /// An artifact of two layers, the module as it is and what is said of it.
    #[must_use]
    pub fn artifact(name: &str, module: &[u8], release: &Release) -> Self {
        let config = json!({"type": "envoy_proxy", "config": {"rootIds": [""]}, "name": release.title, "abiVersions": ["0.2.1"]});
        let config = Blob::new(config.to_string().into_bytes());
        let module = Blob::new(module.to_vec());
        let described = config.described(WASM_CONFIG);
        let layers = [described.clone(), module.described(WASM_LAYER)];
        Self::new(name, release, &described, &layers, vec![config, module])
    }

    fn new(name: &str, release: &Release, config: &Value, layers: &[Value], blobs: Vec<Blob>) -> Self {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
            "annotations": release.annotations(),
        });
        Self { name: name.to_owned(), manifest: Blob::new(manifest.to_string().into_bytes()), blobs }
    }
}

/// `sha256:` and the digest in hexadecimal digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::from("sha256:"), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn release() -> Release {
        Release { title: "portcullis".to_owned(), version: "1.2.3".to_owned(), licenses: "MIT".to_owned() }
    }

    #[test]
    fn a_digest_is_that_of_the_standard() {
        // FIPS 180-4, the example of "abc".
        assert_eq!(digest(b"abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_layer_holds_the_module_under_the_name_that_hosts_look_for() {
        let image = Image::layer("x", b"\0asm", &release());
        let manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        assert_eq!(manifest["layers"][0]["mediaType"], LAYER);
        assert_eq!(manifest["layers"][0]["digest"], image.blobs[1].digest);
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(image.blobs[1].bytes.as_slice()).read_to_end(&mut tar).unwrap();
        let config: Value = serde_json::from_slice(&image.blobs[0].bytes).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&tar));
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("plugin.wasm"));
        let mut module = Vec::new();
        entry.read_to_end(&mut module).unwrap();
        assert_eq!(module, b"\0asm");
        assert!(entries.next().is_none());
    }

    #[test]
    fn an_artifact_has_two_layers_of_which_one_is_the_module_itself() {
        let image = Image::artifact("x", b"\0asm", &release());
        let manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(2));
        assert_eq!(manifest["layers"][1]["mediaType"], WASM_LAYER);
        assert_eq!(image.blobs[1].bytes, b"\0asm");
    }

    #[test]
    fn the_same_module_gives_the_same_image() {
        assert_eq!(Image::layer("x", b"abc", &release()), Image::layer("x", b"abc", &release()));
        assert_ne!(
            Image::layer("x", b"abc", &release()).manifest,
            Image::layer("x", b"abd", &release()).manifest
        );
    }
}
