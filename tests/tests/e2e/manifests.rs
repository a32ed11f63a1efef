//! The files for meshes and Kubernetes, by the schemas that others publish (`tests/manifests`), and by what our own programs
//! make of what they say.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::stage::{folder, layout};

/// The schemas' version.
const KUBERNETES: &str = "1.37.0";
const ISTIO: &str = "envoy/mesh/istio-wasmplugin.yaml";
const GATEWAY: &str = "envoy/mesh/envoy-gateway-extension-policy.yaml";

fn text(file: &str) -> String {
    fs::read_to_string(layout().root().join(file)).unwrap()
}

/// The documents of a file.
fn documents(text: &str) -> Vec<Value> {
    let all = serde_yaml_ng::Deserializer::from_str(text);
    all.map(|document| serde::Deserialize::deserialize(document).unwrap()).collect()
}

/// What the schemas say of files.
fn validate(files: &[PathBuf]) -> Output {
    Command::new(layout().tools().join("venv/bin/python3"))
        .arg(layout().root().join("tests/manifests/validate.py"))
        .arg(KUBERNETES)
        .args(files)
        .output()
        .expect("`make test` installs it")
}

/// What Istio's own schema says of a document.
fn validate_istio(document: &Value) -> Output {
    let mut node = Command::new(xtask::commands::install::node(&layout()).unwrap())
        .arg(layout().root().join("tests/manifests/istio.mjs"))
        .arg(layout().tools().join("manifests"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    node.wait_with_output().unwrap()
}

fn assert_sound(output: &Output, what: &str) {
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&said));
}

fn manifests() -> Vec<PathBuf> {
    let in_folder =
        |name: &str| fs::read_dir(layout().root().join(name)).unwrap().flatten().map(|entry| entry.path());
    in_folder("envoy/mesh").chain(in_folder("envoy/kubernetes")).collect()
}

#[test]
fn every_manifest_fits_its_schema() {
    let files = manifests();
    assert!(files.len() >= 6, "{files:?}");
    assert_sound(&validate(&files), "the manifests");
    for document in documents(&text(ISTIO)) {
        assert_sound(&validate_istio(&document), ISTIO);
    }
}

/// The schemas are not so wide that everything fits.
#[test]
fn a_manifest_with_a_slip_does_not_fit() {
    let slips = [
        ("envoy/kubernetes/companion.yaml", "failureThreshold", "failureTreshold"),
        ("envoy/kubernetes/companion.yaml", "containerPort: 8000", "containerPort: web"),
        ("envoy/kubernetes/network-policy.yaml", "podSelector", "podSelectors"),
        ("envoy/kubernetes/kustomization.yaml", "newTag", "tag"),
        (ISTIO, "pluginConfig:", "pluginConfiguration:"),
        (ISTIO, "FAIL_RELOAD\n", "FAIL_OPEN\n"),
        (GATEWAY, "failOpen: false", "failOpen: true"),
        (GATEWAY, "rootID", "rootId"),
        (GATEWAY, "kind: Gateway,", "kind: Ingress,"),
    ];
    let place = folder("manifests");
    fs::create_dir_all(&place).unwrap();
    for (number, (file, right, wrong)) in slips.into_iter().enumerate() {
        let (whole, slip) = (text(file), place.join(format!("slip-{number}.yaml")));
        assert!(whole.contains(right), "{file} has no {right}");
        fs::write(&slip, whole.replace(right, wrong)).unwrap();
        let said = validate(&[slip]);
        assert_eq!(
            said.status.code(),
            Some(1),
            "{file}: {wrong} fits: {}",
            String::from_utf8_lossy(&said.stdout)
        );
    }
    let mut plugin = documents(&text(ISTIO)).remove(0);
    plugin["spec"]["vmConfig"]["env"][0]["valueFrom"] = "ELSEWHERE".into();
    assert_eq!(validate_istio(&plugin).status.code(), Some(1));
}

/// What the meshes hand to the module is a configuration that it takes.
#[test]
fn the_configurations_in_the_manifests_pass_the_check() {
    let check = |name: &str, config: &Value| {
        let file = folder("manifests").join(format!("{name}.json"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, config.to_string()).unwrap();
        let checked = Command::new(layout().companion().unwrap()).arg("check").arg(&file).output().unwrap();
        assert_sound(&checked, name);
    };
    let plugin = documents(&text(ISTIO)).remove(0);
    check("istio", &plugin["spec"]["pluginConfig"]);
    let policy = documents(&text(GATEWAY)).remove(0);
    let modules = policy["spec"]["wasm"].as_array().unwrap();
    assert_eq!(modules.len(), 1);
    check("envoy-gateway", &modules[0]["config"]);
}

/// What a kustomization names is there; what the files name of each other exists; what they call in the companion answers.
#[test]
fn the_files_for_kubernetes_agree_with_each_other_and_with_the_companion() {
    let here = Path::new("envoy/kubernetes");
    let read = |name: &str| documents(&text(here.join(name).to_str().unwrap()));
    let kustomization = read("kustomization.yaml").remove(0);
    let resources: Vec<&str> =
        kustomization["resources"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let all: Vec<Value> = resources.iter().flat_map(|name| read(name)).collect();
    let of_kind = |kind: &str| {
        all.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    };
    let (set, service, network) = (of_kind("StatefulSet"), of_kind("Service"), of_kind("NetworkPolicy"));
    assert_eq!(of_kind("Namespace")["metadata"]["name"], kustomization["namespace"]);

    let labels = &set["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &set["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &network["spec"]["podSelector"]["matchLabels"],
    ] {
        for (name, value) in selector.as_object().unwrap() {
            assert_eq!(&labels[name], value, "a selector finds the pods");
        }
    }
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], kustomization["images"][0]["name"]);
    let ports: Vec<&Value> =
        container["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
    let service_ports = service["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["targetPort"]);
    let ingress = network["spec"]["ingress"].as_array().unwrap().iter();
    let allowed = ingress.flat_map(|rule| rule["ports"].as_array().unwrap()).map(|port| &port["port"]);
    let probes =
        ["startupProbe", "livenessProbe", "readinessProbe"].map(|probe| &container[probe]["httpGet"]);
    for port in service_ports.chain(allowed).chain(probes.map(|probe| &probe["port"])) {
        assert!(ports.contains(&port), "{port} is no port of the container");
    }

    // The arguments and variables are the companion's own, and the probes ask what it answers.
    let help = Command::new(layout().companion().unwrap()).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(help.contains(name), "portcullis serve knows no {name}");
    }
    let companion = &crate::stages::demonstration().stage.stack;
    for probe in probes {
        let request = crate::support::client::Request::get(probe["path"].as_str().unwrap());
        assert_eq!(request.header("connection", "close").send(companion.companion()).status, 200, "{probe}");
    }
}
