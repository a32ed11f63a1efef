//! `ENVELOPE.md` says what the code does: the vectors, and a decryptor in another language that was written from it.

use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use portcullis_keyring::{Context, Keyring, MemoryStore, RootKey, RootKeys, Tenant};
use rand::{Rng, TryCryptoRng, TryRng};
use serde_json::{Value, json};

use crate::support::{rng, tenant};

const SECRET: &[u8] = b"not secret: the root of vectors, 2026";

/// The random bytes of the vectors: 00, 01, 02, and so on.
struct Counting(u8);

impl TryRng for Counting {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_be_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len() / 2).map(|place| u8::from_str_radix(&hex[place * 2..place * 2 + 2], 16).unwrap()).collect()
}

fn place(context: &Context<'_>) -> Value {
    json!({"tenant": context.tenant.as_str(), "table": context.table, "column": context.column, "row": context.row,
        "purpose": context.purpose})
}

fn with(mut item: Value, more: &[(&str, String)]) -> Value {
    for (name, value) in more {
        item[name] = json!(value);
    }
    item
}

/// A document of values sealed with the bytes of `rng`.
fn document(rng: &mut impl TryCryptoRng, messages: &[Vec<u8>]) -> (Value, Keyring) {
    let root = RootKeys::new(RootKey::new(SECRET).unwrap(), Vec::new());
    let keyring = Keyring::new(Arc::new(root), Arc::new(MemoryStore::default()), 100);
    let (acme, other) = (tenant("acme"), tenant("O'Brien;--"));
    let places = [
        Context { table: "customers", column: "iban", row: "4711", purpose: "payment", ..Context::of(&acme) },
        Context { column: "größe", row: "7", ..Context::of(&other) },
        Context::of(&acme),
    ];
    for tenant in [&acme, &other] {
        keyring.generate_tenant_key(tenant, 0, rng).unwrap();
    }
    let mut sealed = Vec::new();
    for message in messages {
        for context in &places {
            let envelope = keyring.seal(context, message, rng).unwrap();
            sealed.push(with(place(context), &[("envelope", hex(&envelope)), ("plaintext", hex(message))]));
        }
        keyring.rotate(&acme, 0, rng).unwrap();
    }
    let refused: Vec<Value> = ["tenant", "table", "column", "row", "purpose", "envelope"]
        .iter()
        .map(|field| {
            let mut item = sealed[0].clone();
            item.as_object_mut().unwrap().remove("plaintext");
            item[field] = match *field {
                "tenant" => json!("O'Brien;--"),
                "envelope" => json!(item["envelope"].as_str().unwrap().replacen("01010461", "01010462", 1)),
                other => json!(format!("{}x", item[other].as_str().unwrap())),
            };
            item
        })
        .collect();
    let indexes: Vec<Value> = places
        .iter()
        .map(|context| {
            let index = keyring.blind_index(context, b"DE02 1203").unwrap();
            let index = [("value", hex(b"DE02 1203")), ("index", hex(index.as_bytes()))];
            with(
                json!({"tenant": context.tenant.as_str(), "table": context.table, "column": context.column}),
                &index,
            )
        })
        .collect();
    let records = [&acme, &other].map(|tenant| keyring.record(tenant).unwrap());
    let wrapped: Vec<String> = records
        .iter()
        .flat_map(|record| record.versions.iter().map(|held| &held.wrapped).chain([&record.index]))
        .map(|wrapped| hex(wrapped))
        .collect();
    let document = json!({"root_secret": hex(SECRET), "wrapped_keys": wrapped, "sealed": sealed, "refused": refused,
        "blind_indexes": indexes});
    (document, keyring)
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn vectors() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("vectors.json")).unwrap()).unwrap()
}

/// What the decryptor in Python prints for `document`.
fn python(document: &Value) -> Vec<Value> {
    let interpreter: PathBuf = folder().join("../../.tools/venv/bin/python3");
    let mut running = Command::new(&interpreter)
        .arg(folder().join("tests/open_envelope.py"))
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

fn messages() -> Vec<Vec<u8>> {
    vec![b"DE02 1203 0000 0000 2020 51".to_vec(), Vec::new(), (0..=255).collect()]
}

#[test]
fn the_vectors_are_what_the_code_makes_of_bytes_that_count_upwards() {
    let (made, _) = document(&mut Counting(0), &messages());
    assert!(made == vectors(), "vectors.json is of another format; what is made now: {made:#}");
}

#[test]
fn the_vectors_open_and_those_that_must_not_do_not() {
    let (_, keyring) = document(&mut Counting(0), &messages());
    let vectors = vectors();
    let open = |item: &Value| {
        let text = |name: &str| item[name].as_str().unwrap();
        let tenant = Tenant::new(text("tenant").as_bytes()).unwrap();
        let context = Context {
            tenant: &tenant,
            table: text("table"),
            column: text("column"),
            row: text("row"),
            purpose: text("purpose"),
        };
        keyring.open(&context, &bytes(&item["envelope"]))
    };
    for item in vectors["sealed"].as_array().unwrap() {
        assert_eq!(open(item).unwrap().expose(), bytes(&item["plaintext"]));
    }
    assert_eq!(vectors["refused"].as_array().unwrap().len(), 6);
    for item in vectors["refused"].as_array().unwrap() {
        assert!(open(item).is_err(), "{item}");
    }
}

#[test]
fn a_decryptor_written_from_the_document_opens_the_vectors() {
    let vectors = vectors();
    assert_eq!(python(&vectors), plaintexts(&vectors));
}

#[test]
fn it_opens_fresh_envelopes_too() {
    let mut rng = rng();
    let messages: Vec<Vec<u8>> = (0..60_usize)
        .map(|length| {
            let mut message = vec![0; length * length];
            rng.fill_bytes(&mut message);
            message
        })
        .collect();
    let (fresh, _) = document(&mut rng, &messages);
    assert_eq!(python(&fresh), plaintexts(&fresh));
}

#[test]
fn it_notices_a_document_that_is_wrong() {
    let mut wrong = vectors();
    wrong["refused"][0] = wrong["sealed"][0].clone();
    let caught = std::panic::catch_unwind(|| python(&wrong));
    assert!(caught.is_err(), "an envelope that opens was taken for one that does not");
}
