//! What Envoy's rate limit service costs, on one core: `cargo run --release -p portcullis-server --example ratelimit`.
//!
//! The service runs on one thread with its store in memory and a journal on this disk, the callers on another; each call
//! has three descriptors. What is told is CPU time of the service's thread, so it does not matter who else is busy.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement ends when it cannot go on")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_server::http::listener::{IDLE, Listener, Terms, serve};
use portcullis_server::limits::grpc::Service;
use portcullis_server::limits::grpc::config::Config;
use portcullis_server::limits::grpc::messages::{Descriptor, Entry, RateLimitRequest, RateLimitResponse};
use portcullis_server::limits::{Limits, Policies, Store};
use portcullis_server::policies::SecurityPolicies;
use portcullis_server::storage::sqlite::SqliteStorage;
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::transport::Channel;

const CONFIG: &str = "
domain: bench
descriptors:
  - key: tenant
    rate_limit: {unit: second, requests_per_unit: 1000000}
    descriptors:
      - key: user
        rate_limit: {unit: minute, requests_per_unit: 1000000}
        descriptors:
          - key: path
            rate_limit: {unit: minute, requests_per_unit: 1000000}
";
const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const CALLERS: u64 = 64;
const CONNECTIONS: u64 = 4;
const WARM: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(8);

fn request(number: u64) -> RateLimitRequest {
    let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
    let all = [
        entry("tenant", format!("tenant-{}", number % 1000)),
        entry("user", format!("user-{}", number % 10_000)),
        entry("path", "/api/orders".to_owned()),
    ];
    let descriptor = |entries: usize| Descriptor {
        entries: all.iter().take(entries).cloned().collect(),
        ..Descriptor::default()
    };
    RateLimitRequest {
        domain: "bench".to_owned(),
        descriptors: (1..=3).map(descriptor).collect(),
        hits_addend: 1,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (place, place_known) = std::sync::mpsc::channel();
    let (ready, address) = std::sync::mpsc::channel();
    let (end, ended) = watch::channel(false);
    let path = folder.path().to_owned();
    let server = std::thread::spawn(move || {
        place.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
        runtime().block_on(async move {
            let storage = SqliteStorage::open(&path.join("companion.db"), Default::default()).unwrap();
            let storage: Arc<dyn portcullis_server::storage::Storage> = Arc::new(storage);
            let policies =
                portcullis_server::policies::Policies::new(Arc::clone(&storage), SecurityPolicies::default());
            let store = Store::memory(&path, storage).await.unwrap();
            let limits = Arc::new(Limits::new(store, Policies::new(policies, Default::default())));
            let mut config = Config::default();
            config.add(CONFIG).unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            let router = Service::new(limits, config, None, false).router();
            let terms = Terms { connections: 256, http2: true, idle: IDLE };
            serve(Listener::Tcp(listener), router, terms, ended).await;
        });
    });
    let thread = std::path::Path::new("/proc").join(place_known.recv().unwrap()).join("schedstat");
    let address = format!("http://{}", address.recv().unwrap());
    let cpu = || {
        let text = std::fs::read_to_string(&thread).expect("Linux");
        Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number"))
    };
    runtime().block_on(async {
        let answered = Arc::new(AtomicU64::new(0));
        for connection in 0..CONNECTIONS {
            let channel = Channel::from_shared(address.clone()).unwrap().connect().await.unwrap();
            for caller in 0..CALLERS / CONNECTIONS {
                let (mut grpc, answered) = (Grpc::new(channel.clone()), Arc::clone(&answered));
                tokio::spawn(async move {
                    let mut number = connection * 1_000_003 + caller * 7919;
                    loop {
                        number += 1;
                        grpc.ready().await.unwrap();
                        let codec = tonic_prost::ProstCodec::<RateLimitRequest, RateLimitResponse>::default();
                        let asked = tonic::Request::new(request(number));
                        grpc.unary(asked, METHOD.parse().unwrap(), codec).await.unwrap();
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        tokio::time::sleep(WARM).await;
        let (start, before) = (cpu(), answered.load(Ordering::Relaxed));
        tokio::time::sleep(MEASURED).await;
        let (used, count) = (cpu() - start, answered.load(Ordering::Relaxed) - before);
        let each = used.as_secs_f64() / count as f64;
        println!(
            "{count} calls of three descriptors; {:.1} us CPU each; {:.0} a second on one core",
            each * 1e6,
            1.0 / each
        );
    });
    end.send_replace(true);
    drop(server);
}
