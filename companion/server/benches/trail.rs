//! How fast the audit trail takes events, and how fast the tables follow.
//!
//! `cargo bench --workspace --bench trail -- --events 500000 --store sqlite`; by default on both stores, in a folder of
//! the working directory, because /tmp may be memory. Batches in the module's format are read, what they tell of people is
//! sealed under their tenants' keys, they are appended to a real file with its Merkle tree and a signature a group, and counted when
//! they are durable; then the whole trail is projected. The keys are in the store that is projected into. Goals:
//! 50,000 events/s durable; projected 20,000/s by SQLite, 30,000/s by Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "measures"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use mimalloc::MiMalloc;
use portcullis_audit_log::note::Signer;
use portcullis_server::clock::{Clock, Timestamp};
use portcullis_server::ingest::batch::Batch;
use portcullis_server::keys::{Absent, Keys, Service};
use portcullis_server::metrics::Metrics;
use portcullis_server::secret::Secret;
use portcullis_server::storage::postgres::Target;
use portcullis_server::storage::{self, Expiry, Place, Registration, Shape, Storage};
use portcullis_server::trail::projector::Projector;
use portcullis_server::trail::redact::Redactor;
use portcullis_server::trail::{Settings, Trail};
use tokio::sync::watch;
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// Lines of a batch.
    #[arg(long, default_value_t = 1_000)]
    batch: u64,
    /// Batches that are under way at once, as from so many workers of proxies.
    #[arg(long, default_value_t = 16)]
    at_once: u64,
    /// `sqlite` or `postgres`; both when left out.
    #[arg(long)]
    store: Option<String>,
    /// Where the files lie.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// What `cargo bench` adds.
    #[arg(long)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir_in(&arguments.folder).unwrap();
    for store in ["sqlite", "postgres"] {
        if arguments.store.as_deref().is_none_or(|only| only == store) {
            runtime.block_on(measure(store, folder.path(), &arguments));
        }
    }
}

/// About 760 bytes, as a module writes them.
fn line(n: u64, time: i64) -> String {
    format!(
        r#"{{"class_uid":4002,"class_name":"HTTP Activity","category_uid":4,"activity_id":3,"type_uid":400203,"severity_id":1,"time":{time},"duration":{duration},"metadata":{{"version":"1.5.0","product":{{"name":"Portcullis"}},"correlation_uid":"6f1c0e52-8d0b-4f0e-9d3a-{n:012}","tenant_uid":"tenant-{tenant}","sequence":{n}}},"actor":{{"user":{{"uid":"user-{user}"}}}},"src_endpoint":{{"ip":"10.0.{a}.{b}"}},"http_request":{{"http_method":"GET","url":{{"hostname":"shop.example","path":"/api/orders/{n}","query_string":"page=2","scheme":"https"}},"user_agent":"Mozilla/5.0 (X11; Linux x86_64)"}},"http_response":{{"code":200,"length":120}},"unmapped":{{"portcullis":{{"event_type":"REQUEST","severity":"INFO","epoch":"00000000000000aa","sequence":{n},"decision":"allow","details":{{}}}}}}}}"#,
        duration = n % 90,
        tenant = n % 20,
        user = n % 5000,
        a = n / 250 % 250,
        b = n % 250,
    )
}

fn bodies(arguments: &Arguments, now: Timestamp) -> Vec<Vec<u8>> {
    let Arguments { events, batch, .. } = *arguments;
    (0..events.div_ceil(batch))
        .map(|number| {
            let lines: Vec<_> = (number * batch..((number + 1) * batch).min(events))
                .map(|n| line(n, now.as_millisecond() - 1))
                .collect();
            lines.join("\n").into_bytes()
        })
        .collect()
}

/// As it is without any rule: credentials are looked for.
fn redactor() -> Redactor {
    Redactor::new(Secret::new("key", "k".repeat(32), 32).unwrap(), [], None).unwrap()
}

/// Twenty tenants' keys: what events tell of people is sealed under them.
fn keys(folder: &Path, storage: &Arc<dyn Storage>) -> Keys {
    let root = |name: &str| (name == "ENCRYPTION_KEY").then(|| "0123456789abcdef0123456789abcdef".to_owned());
    let service = Service::new(&root, folder, Absent::Refuse).unwrap();
    Keys::new(Arc::clone(storage), &service, Clock::System)
}

async fn measure(store: &str, folder: &Path, arguments: &Arguments) {
    let now = Clock::System.now();
    let server;
    let place = if store == "sqlite" {
        Place::Sqlite(folder.join("bench.db"))
    } else {
        let layout = Layout::of_this_checkout();
        server = Server::start(&layout, &std::env::temp_dir(), Durability::Full).unwrap();
        Place::Postgres(Box::new(Target::new(&server.create(&layout, "bench").unwrap()).unwrap()))
    };
    let registration = Registration::ByTraffic { max_tenants: 100 };
    let shape = Shape { registration, max_bytes: 1 << 40, ..Shape::default() };
    let storage = storage::open(&place, shape).await.unwrap();
    storage.expire(Expiry { now, before: Timestamp::UNIX_EPOCH, most: 1 }).await.unwrap();
    let settings = Settings {
        folder: folder.join(format!("audit-{store}")),
        signer: Signer::from_seed(&[7; 32]),
        redactor: Some(Arc::new(redactor())),
        retention: Default::default(),
        max_bytes: u64::MAX,
    };
    let trail = Trail::open(&settings, Some(keys(folder, &storage)), Clock::System).unwrap();
    append(store, &trail, arguments, now).await;
    let mut projector = Projector::new(trail.clone(), Arc::clone(&storage), Arc::new(Metrics::default()));
    let (_running, end) = watch::channel(false);
    let began = Instant::now();
    projector.catch_up(&end).await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(trail.projected(), trail.size());
    println!("{store}: projected in {seconds:.2} s: {:.0} events/s", trail.size() as f64 / seconds);
    trail.close().await;
    storage.close().await.unwrap();
}

async fn append(store: &str, trail: &Trail, arguments: &Arguments, now: Timestamp) {
    let bodies = Arc::new(bodies(arguments, now));
    let bytes = bodies.iter().map(Vec::len).sum::<usize>();
    let began = Instant::now();
    let lanes: Vec<_> = (0..arguments.at_once)
        .map(|lane| {
            let (trail, bodies) = (trail.clone(), Arc::clone(&bodies));
            let step = usize::try_from(arguments.at_once).unwrap();
            tokio::spawn(async move {
                for body in bodies.iter().skip(usize::try_from(lane).unwrap()).step_by(step) {
                    let batch = Batch::read(body, now);
                    assert_eq!(batch.rejected, 0);
                    trail.append(batch.events).await.unwrap();
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(trail.size(), arguments.events);
    println!(
        "{store}: {} events of {} bytes, durable with their Merkle tree, in {seconds:.2} s: {:.0} events/s",
        arguments.events,
        bytes / usize::try_from(arguments.events).unwrap(),
        arguments.events as f64 / seconds
    );
}
