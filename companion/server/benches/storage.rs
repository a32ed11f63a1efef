//! How fast events are stored, and how fast the API answers with many of them there.
//!
//! `cargo bench -p portcullis-server --bench storage -- --events 10000000 --store postgres`; by default a million, on
//! both stores. Postgres is a server of its own, in a temporary folder, as durable as in production. Goals: a day's figures
//! and a page of events in less than 20 ms at the 99th percentile with 10 million events stored; SQLite 20,000 events/s,
//! Postgres 30,000.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "measures"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use mimalloc::MiMalloc;
use portcullis_server::clock::{Clock, Timestamp};
use portcullis_server::event::{Epoch, Event, EventType, RecordKey, Sequence, Severity};
use portcullis_server::storage::postgres::Target;
use portcullis_server::storage::{self, EventQuery, Expiry, Place, Registration, Shape, Start, Storage};
use portcullis_server::tenant::TenantId;
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

const BATCH: u64 = 1000;
const AT_ONCE: u64 = 4;
const TENANTS: u64 = 20;
const SPAN_MS: i64 = 48 * 3_600_000;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// `sqlite` or `postgres`; both when left out.
    #[arg(long)]
    store: Option<String>,
    /// Questions of each kind.
    #[arg(long, default_value_t = 500)]
    questions: u64,
    /// What `cargo bench` adds.
    #[arg(long)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for store in ["sqlite", "postgres"] {
        if arguments.store.as_deref().is_some_and(|only| only != store) {
            continue;
        }
        let (place, _server) = open(store, folder.path());
        runtime.block_on(measure(store, &place, &arguments));
    }
}

fn open(store: &str, folder: &Path) -> (Place, Option<Server>) {
    if store == "sqlite" {
        return (Place::Sqlite(folder.join("bench.db")), None);
    }
    let layout = Layout::of_this_checkout();
    let server = Server::start(&layout, &std::env::temp_dir(), Durability::Full).unwrap();
    let url = server.create(&layout, "bench").unwrap();
    (Place::Postgres(Box::new(Target::new(&url).unwrap())), Some(server))
}

fn tenant(n: u64) -> TenantId {
    TenantId::new(&format!("tenant-{}", n % TENANTS)).unwrap()
}

/// Of 651 bytes as a record, spread over two days.
fn event(n: u64, total: u64, now: Timestamp) -> Event {
    let (event_type, severity) = match n % 20 {
        0 => ("ATTACK_BLOCKED", Severity::Warning),
        1 => ("RATE_LIMIT_EXCEEDED", Severity::Warning),
        2 if n.is_multiple_of(10) => ("REQUEST", Severity::Error),
        _ => ("REQUEST", Severity::Info),
    };
    let back = SPAN_MS
        - i64::try_from(u128::from(n) * u128::from(SPAN_MS.unsigned_abs()) / u128::from(total)).unwrap();
    let details = serde_json::json!({
        "uid": format!("00000000000000aa-{n}"), "correlation_id": format!("6f1c0e52-8d0b-4f0e-9d3a-{n:012}"), "method": "GET",
        "host": "shop.example", "path": format!("/api/orders/{n}"), "query": "page=2&sort=created_at", "status": 200,
        "duration_ms": n % 90, "decision": "allow", "action": "api_call", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0",
    });
    Event {
        key: RecordKey {
            epoch: Epoch::new("00000000000000aa").unwrap(),
            sequence: Sequence::new(n).unwrap(),
        },
        tenant: tenant(n),
        event_type: EventType::new(event_type).unwrap(),
        severity,
        user_id: Some(format!("user-{}", n % 5000)),
        ip_address: Some(format!("10.0.{}.{}", n / 250 % 250, n % 250)),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0".to_owned()),
        details: details.as_object().unwrap().clone(),
        at: Timestamp::from_millisecond(now.as_millisecond() - back).unwrap(),
        at_arrival: false,
        rate_limit: None,
        gap: None,
    }
}

async fn measure(name: &str, place: &Place, arguments: &Arguments) {
    let now = Clock::System.now();
    let shape = Shape {
        registration: Registration::ByTraffic { max_tenants: 100 },
        max_bytes: 1 << 40,
        ..Shape::default()
    };
    let store: Arc<dyn Storage> = storage::open(place, shape).await.unwrap();
    let days_ago = |days: i64| Timestamp::from_millisecond(now.as_millisecond() - days * 86_400_000).unwrap();
    // Today's partitions, and those of the days before, as they would be there.
    for days in [2, 1, 0] {
        store.expire(Expiry { now: days_ago(days), before: days_ago(90), most: 1 }).await.unwrap();
    }
    let total = arguments.events;
    let began = Instant::now();
    let lanes: Vec<_> = (0..AT_ONCE)
        .map(|lane| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for batch in (lane..total.div_ceil(BATCH)).step_by(usize::try_from(AT_ONCE).unwrap()) {
                    let numbers = batch * BATCH..((batch + 1) * BATCH).min(total);
                    store.append(numbers.map(|n| event(n, total, now)).collect()).await.unwrap();
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{name}: {total} events in {seconds:.1} s: {:.0} events/s", total as f64 / seconds);

    let since = days_ago(1);
    let query = |n: u64| EventQuery {
        tenant: tenant(n),
        limit: 100,
        event_type: None,
        severity: None,
        since: None,
        until: None,
        start: Start::Newest,
    };
    time(name, "a day's figures", arguments, async |n| {
        store.counts(tenant(n), since).await.unwrap();
    })
    .await;
    time(name, "a page of 100", arguments, async |n| drop(store.events(query(n)).await.unwrap())).await;
    time(name, "a page of errors", arguments, async |n| {
        let query = EventQuery { severity: Some(Severity::Error), ..query(n) };
        drop(store.events(query).await.unwrap());
    })
    .await;
    time(name, "a page of one type, yesterday", arguments, async |n| {
        let event_type = EventType::new("ATTACK_BLOCKED");
        drop(store.events(EventQuery { event_type, until: Some(since), ..query(n) }).await.unwrap());
    })
    .await;
    store.close().await.unwrap();
}

async fn time(store: &str, what: &str, arguments: &Arguments, ask: impl AsyncFn(u64)) {
    let mut took = Vec::new();
    for n in 0..arguments.questions {
        let began = Instant::now();
        ask(n).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| {
        took.get(took.len() * share / 100).copied().unwrap_or(Duration::ZERO).as_secs_f64() * 1000.0
    };
    println!("{store}: {what}: p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
}
