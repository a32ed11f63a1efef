//! What sealing and opening cost on one core, and how much memory a million tenants' keys take:
//! `cargo bench --package portcullis-keyring`.

#![expect(clippy::unwrap_used, reason = "a program that measures; it may stop at the first thing that fails")]

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mimalloc::MiMalloc;
use portcullis_keyring::{Context, Keyring, MemoryStore, RootKey, RootKeys, Tenant};
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};

const TENANTS: usize = 1_000_000;

/// As the companion has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    let rng = &mut StdRng::try_from_rng(&mut SysRng).unwrap();
    let root = RootKey::new(b"0123456789abcdefghijklmnopqrstuvwxyz").unwrap();
    let roots = Arc::new(RootKeys::new(root, Vec::new()));
    let keyring = Keyring::new(roots, Arc::new(MemoryStore::default()), TENANTS);
    let tenant = Tenant::new(b"acme").unwrap();
    keyring.generate_tenant_key(&tenant, 0, rng).unwrap();
    let context = Context {
        table: "customers",
        column: "iban",
        row: "4711",
        purpose: "payment",
        ..Context::of(&tenant)
    };
    for size in [64, 1024, 65_536] {
        let message = vec![7; size];
        let envelope = keyring.seal(&context, &message, rng).unwrap();
        report("seal", size, || drop(black_box(keyring.seal(&context, black_box(&message), rng).unwrap())));
        report("open", size, || drop(black_box(keyring.open(&context, black_box(&envelope)).unwrap())));
    }
    let value = [7; 32];
    report("blind index", value.len(), || {
        black_box(keyring.blind_index(&context, black_box(&value)).unwrap());
    });
    memory(&keyring, rng);
}

/// The best of many short rounds: what is slower was disturbed by others on the machine.
fn report(what: &str, size: usize, mut work: impl FnMut()) {
    let mut best = Duration::MAX;
    let times = (2_000_000 / (size + 200)) as u32;
    for _ in 0..100 {
        let start = now();
        (0..times).for_each(|_| work());
        best = best.min(start.elapsed() / times);
    }
    let rate = 1.0 / best.as_secs_f64();
    println!("{what:>12} {size:>6} B {:>8} ns {rate:>12.0}/s", best.as_nanos());
}

/// What the keys of many tenants take once they are in the cache, beyond the store that holds them wrapped.
fn memory(keyring: &Keyring, rng: &mut StdRng) {
    let tenants = (0..TENANTS).map(|number| Tenant::new(format!("tenant-{number:08}").as_bytes()).unwrap());
    for tenant in tenants.clone() {
        keyring.generate_tenant_key(&tenant, 0, rng).unwrap();
    }
    keyring.forget_all();
    let before = resident();
    let start = now();
    for tenant in tenants {
        keyring.seal(&Context::of(&tenant), b"", rng).unwrap();
    }
    let (seconds, keys) = (start.elapsed().as_secs_f64(), keyring.cached_keys());
    let bytes = resident().saturating_sub(before);
    println!("{keys} keys loaded in {seconds:.1} s, {} MiB", bytes >> 20);
}

#[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
fn now() -> Instant {
    Instant::now()
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
