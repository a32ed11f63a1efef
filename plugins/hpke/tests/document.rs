//! `ENVELOPE.md` says what the code does: the vectors, and a decryptor in another language that was written from it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use hkdf::Hkdf;
use portcullis_hpke::envelope::MESSAGES;
use portcullis_hpke::{Batch, Envelope, Place, SecretKey, TenantKey, open};
use portcullis_policy::Tenant;
use serde_json::{Value, json};
use sha2::Sha256;
use xtask::layout::Layout;

const VERSION: u32 = 3;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len() / 2)
        .map(|place| u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).unwrap())
        .collect()
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(name.as_bytes()).unwrap()
}

/// The tenant's key of the vectors, and what follows from it.
fn keys() -> ([u8; 32], SecretKey, TenantKey) {
    let tenant_key = std::array::from_fn(|place| 0x80 | u8::try_from(place).unwrap());
    let mut material = [0; 32];
    Hkdf::<Sha256>::from_prk(&tenant_key)
        .unwrap()
        .expand(b"portcullis edge v1 x25519", &mut material)
        .unwrap();
    let secret = SecretKey::derive(&material);
    let public = secret.public();
    (tenant_key, secret, TenantKey { version: VERSION, public })
}

/// A document of values that were sealed with seeds which count upwards from `first`.
fn document(first: u8, messages: &[Vec<u8>]) -> Value {
    let (tenant_key, _, key) = keys();
    let acme = tenant("acme");
    let places = [("header x-card", "edge"), ("json /items/*/größe", "payment"), ("form iban", "")];
    let mut sealed = Vec::new();
    for (round, message) in (0..).zip(messages) {
        let seed =
            std::array::from_fn(|place| first.wrapping_add(round).wrapping_add(u8::try_from(place).unwrap()));
        let mut batch = Batch::begin(&acme, &key, &seed).unwrap();
        for (field, purpose) in places {
            let envelope = batch.seal(&Place { tenant: &acme, field, purpose }, message).unwrap();
            sealed.push(json!({"tenant": "acme", "field": field, "purpose": purpose,
                "envelope": Envelope::to_text(&envelope), "plaintext": hex(message)}));
        }
    }
    let refused: Vec<Value> = ["tenant", "field", "purpose", "envelope"]
        .iter()
        .map(|name| {
            let mut item = sealed[1].clone();
            item.as_object_mut().unwrap().remove("plaintext");
            let before = item[name].as_str().unwrap();
            item[name] = match *name {
                // The eighth character of the bytes' text is of the tenant's name.
                "envelope" => json!(format!("{}A{}", &before[..14], &before[15..])),
                _ => json!(format!("{before}x")),
            };
            item
        })
        .collect();
    json!({"tenant_key": hex(&tenant_key), "public_key": key.to_string(), "sealed": sealed, "refused": refused})
}

fn opened(item: &Value) -> Option<Vec<u8>> {
    let (_, secret, _) = keys();
    let text = |name: &str| item[name].as_str().unwrap();
    let bytes = Envelope::from_text(text("envelope"))?;
    let envelope = Envelope::parse(&bytes)?;
    let tenant = tenant(text("tenant"));
    let place = Place { tenant: &tenant, field: text("field"), purpose: text("purpose") };
    open(&secret, &envelope, &place).map(|message| message.to_vec())
}

fn messages() -> Vec<Vec<u8>> {
    vec![b"4111 1111 1111 1111".to_vec(), Vec::new(), (0..=255).collect()]
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn vectors() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("vectors.json")).unwrap()).unwrap()
}

/// What the decryptor in Python prints for `document`.
fn python(document: &Value) -> Vec<Value> {
    let interpreter = Layout::of_this_checkout().tools().join("venv/bin/python3");
    let mut running = Command::new(&interpreter)
        .arg(folder().join("tests/open_edge.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; `make test` installs it", interpreter.display()));
    running.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| json!(line)).collect()
}

fn plaintexts(document: &Value) -> Vec<Value> {
    document["sealed"].as_array().unwrap().iter().map(|item| item["plaintext"].clone()).collect()
}

#[test]
fn the_vectors_are_what_the_code_makes_of_seeds_that_count_upwards() {
    let made = document(0, &messages());
    let text = serde_json::to_string_pretty(&made).unwrap();
    assert!(made == vectors(), "vectors.json is of another format; what is made now:\n{text}");
}

#[test]
fn the_vectors_open_and_those_that_must_not_do_not() {
    let vectors = vectors();
    assert_eq!(vectors["sealed"].as_array().unwrap().len(), 9);
    for item in vectors["sealed"].as_array().unwrap() {
        assert_eq!(opened(item), Some(bytes(&item["plaintext"])));
    }
    assert_eq!(vectors["refused"].as_array().unwrap().len(), 4);
    for item in vectors["refused"].as_array().unwrap() {
        assert_eq!(opened(item), None, "{item}");
    }
}

#[test]
fn a_decryptor_written_from_the_document_opens_vectors_and_fresh_envelopes() {
    let vectors = vectors();
    assert_eq!(python(&vectors), plaintexts(&vectors));
    let lengths = (0..40_u8).map(|length| vec![length; usize::from(length) * usize::from(length)]);
    let fresh = document(99, &lengths.collect::<Vec<_>>());
    assert_eq!(python(&fresh), plaintexts(&fresh));
    let mut wrong = vectors;
    wrong["refused"][0] = wrong["sealed"][0].clone();
    assert!(std::panic::catch_unwind(|| python(&wrong)).is_err(), "it takes what opens for what does not");
}

#[test]
fn an_envelope_altered_anywhere_or_cut_opens_nowhere() {
    let (_, secret, key) = keys();
    let acme = tenant("acme");
    let place = Place { tenant: &acme, field: "form iban", purpose: "edge" };
    let mut batch = Batch::begin(&acme, &key, &[7; 32]).unwrap();
    let whole = batch.seal(&place, b"DE02 1203").unwrap();
    let opens =
        |bytes: &[u8]| Envelope::parse(bytes).and_then(|envelope| open(&secret, &envelope, &place)).is_some();
    assert!(opens(&whole));
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut altered = whole.clone();
            altered[at] ^= 1 << bit;
            assert!(!opens(&altered), "byte {at}, bit {bit}");
        }
        assert!(!opens(&whole[..at]), "{at} bytes");
    }
}

#[test]
fn a_key_exchange_has_so_many_messages_each_with_its_number_and_no_more() {
    let (_, secret, key) = keys();
    let acme = tenant("acme");
    let place = Place { tenant: &acme, field: "form iban", purpose: "edge" };
    let mut batch = Batch::begin(&acme, &key, &[7; 32]).unwrap();
    let mut sealed: Vec<Vec<u8>> = Vec::new();
    while !batch.is_spent() {
        sealed.push(batch.seal(&place, b"same").unwrap());
    }
    assert_eq!(sealed.len(), MESSAGES as usize);
    assert_eq!(batch.seal(&place, b"same"), None);
    // In any order.
    for bytes in sealed.iter().rev() {
        let envelope = Envelope::parse(bytes).unwrap();
        assert_eq!(*open(&secret, &envelope, &place).unwrap(), b"same");
    }
    sealed.sort();
    sealed.dedup();
    assert_eq!(sealed.len(), MESSAGES as usize, "equal values look different");
}

#[test]
fn a_key_is_read_as_it_is_written_and_no_other_way() {
    let (_, _, key) = keys();
    let text = key.to_string();
    assert_eq!(TenantKey::from_text(&text), Some(key));
    let zero = format!("pcpk1.1.{}", "A".repeat(43));
    for bad in [
        "",
        "pcpk1.",
        &text[1..],
        &text[..text.len() - 1],
        &format!("{text}A"),
        &text.replace(".3.", ".03."),
        &text.replace(".3.", ".0."),
        &text.replace(".3.", ".+3."),
        &text.replace(".3.", ".4294967296."),
        &zero,
    ] {
        assert_eq!(TenantKey::from_text(bad), None, "{bad}");
    }
}
