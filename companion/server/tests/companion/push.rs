//! `portcullis push` into a real registry that asks for a password, and what a mesh then fetches.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use portcullis_image::{Image, Release, digest};
use serde_json::Value;
use xtask::layout::Layout;

use crate::commands::{portcullis, text};

const USER: &str = "release";
const PASSWORD: &str = "open sesame";
/// The same, as bcrypt.
const HASH: &str = "$2b$04$5WCNGmEf5cupMrClaEZFJOTlTPpxnT21tmlHtWbRg9hbvQUayc0eO";

/// A registry of this test alone.
struct Registry {
    child: Child,
    address: SocketAddr,
}

impl Registry {
    fn start(folder: &Path) -> Self {
        let config = folder.join("registry.yml");
        let lines = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n\
             auth: {{htpasswd: {{realm: test, path: {0}/htpasswd}}}}\n",
            folder.display()
        );
        std::fs::write(&config, lines).unwrap();
        std::fs::write(folder.join("htpasswd"), format!("{USER}:{HASH}\n")).unwrap();
        let program = Layout::of_this_checkout().registry().unwrap();
        let mut child = Command::new(program)
            .arg("serve")
            .arg(config)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the registry ended before it listened");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split('"').next().unwrap().parse().unwrap();
            }
        };
        // Whoever writes to a closed pipe ends.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address }
    }

    /// What a client gets that knows the password: the body, and the digest that the registry names.
    fn fetch(&self, path: &str) -> Vec<u8> {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        let login = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        write!(
            stream,
            "GET /v2/guard/{path} HTTP/1.0\r\nhost: registry\r\naccept: application/vnd.oci.image.manifest.v1+json\r\n\
             authorization: Basic {login}\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let body = answer.split_off(end);
        assert!(answer.starts_with(b"HTTP/1.0 200"), "{path}: {}", String::from_utf8_lossy(&answer));
        body
    }

    fn push(&self, folder: &Path, arguments: &[&str], password: &str) -> Output {
        let target = format!("{}/guard:1.0", self.address);
        let mut command = portcullis(folder, &["push", "--plain-http", "--from", "oci"]);
        command.args(arguments).arg(target).env("REGISTRY_USER", USER).env("REGISTRY_PASSWORD", password);
        command.output().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The module that is released, in a layout as `make bundle` writes it.
fn layout(folder: &Path) -> Vec<u8> {
    let module = std::fs::read(Layout::of_this_checkout().module().unwrap()).unwrap();
    let release = Release {
        title: "portcullis".to_owned(),
        version: "1.0".to_owned(),
        licenses: "Apache-2.0".to_owned(),
    };
    let images = [Image::layer("image", &module, &release), Image::artifact("artifact", &module, &release)];
    portcullis_image::write(&folder.join("oci"), &images).unwrap();
    module
}

fn told(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_image_that_was_pushed_holds_the_module_that_a_mesh_looks_for() {
    let folder = tempfile::tempdir().unwrap();
    let module = layout(folder.path());
    let registry = Registry::start(folder.path());

    let first = told(&registry.push(folder.path(), &["--json"], PASSWORD));
    assert_eq!((&first["blobs_sent"], &first["blobs_there"]), (&2.into(), &0.into()));
    // By tag and by digest: the same bytes, under the digest that the command has told.
    let manifest = registry.fetch("manifests/1.0");
    assert_eq!(digest(&manifest), first["digest"].as_str().unwrap());
    assert_eq!(registry.fetch(&format!("manifests/{}", first["digest"].as_str().unwrap())), manifest);
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let layer = registry.fetch(&format!("blobs/{}", layer["digest"].as_str().unwrap()));
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(layer.as_slice()));
    let mut plugin = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(plugin.path().unwrap().to_str(), Some("plugin.wasm"));
    let mut found = Vec::new();
    plugin.read_to_end(&mut found).unwrap();
    assert!(found == module, "the registry gives another module");

    // What is there is not sent again, and stays what it is.
    let again = told(&registry.push(folder.path(), &["--json"], PASSWORD));
    assert_eq!((&again["blobs_sent"], &again["digest"]), (&0.into(), &first["digest"]));

    // The other shape, over the same tag.
    let artifact = registry.push(folder.path(), &["--image", "artifact"], PASSWORD);
    assert!(artifact.status.success(), "{}", text(&artifact.stderr));
    let bytes = registry.fetch("manifests/1.0");
    assert_eq!(text(&artifact.stdout), format!("{}/guard@{}\n", registry.address, digest(&bytes)));
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let layer = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|layer| layer["mediaType"] == "application/vnd.module.wasm.content.layer.v1+wasm");
    let digest = layer.unwrap()["digest"].as_str().unwrap();
    assert!(registry.fetch(&format!("blobs/{digest}")) == module, "the artifact is another module");
}

#[test]
fn what_cannot_be_pushed_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let registry = Registry::start(folder.path());
    let refused = registry.push(folder.path(), &[], "wrong");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("REGISTRY_PASSWORD"), "{}", text(&refused.stderr));

    for (arguments, said) in [
        (&["push", "--from", "oci", "not a name"][..], "name it like"),
        (&["push", "--from", "nowhere", "r.example/p:1"], "`make bundle` writes one"),
        (
            &[
                "push",
                "--from",
                "oci",
                "r.example/p@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ],
            "pushed under a tag",
        ),
    ] {
        let output = portcullis(folder.path(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
}
