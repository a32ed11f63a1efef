//! The same promise with a real Redis: several companions, a Redis that is killed, emptied, away, or a cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests; this one measures real time"
)]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_limits::{
    key::Name,
    quota::Quota,
    redis::{Later, Memory, Redis, RedisError, key, marker},
    step::Ask,
    wire::Checked,
};

/// A Redis of this test alone.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    options: Vec<&'static str>,
}

fn binary() -> (PathBuf, PathBuf) {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/debian/usr");
    let own = tools.join("bin/redis-server");
    let path = std::env::var_os("REDIS_SERVER").map_or(own, PathBuf::from);
    assert!(path.exists(), "{} is missing: `make test` installs it", path.display());
    (path, tools.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH)))
}

impl Server {
    async fn start(options: &[&'static str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = spawn(port, folder.path(), options);
        let server = Self { child, port, folder, options: options.to_vec() };
        server.ready().await;
        server
    }

    async fn ready(&self) {
        for _ in 0..200 {
            if let Ok(mut connection) = self.raw().await
                && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("Redis does not answer");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn again(&mut self) {
        self.child = spawn(self.port, self.folder.path(), &self.options);
        self.ready().await;
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn raw(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    fn companion(&self) -> Redis {
        let started = Instant::now();
        let clock = Arc::new(move || u64::try_from(started.elapsed().as_nanos()).unwrap());
        Redis::new(&self.url(), Box::new(Kept::default()), clock).unwrap()
    }
}

fn spawn(port: u16, folder: &Path, options: &[&str]) -> Child {
    let (binary, libraries) = binary();
    Command::new(binary)
        .env("LD_LIBRARY_PATH", libraries)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(folder)
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Kept(Mutex<Option<String>>);

impl Memory for Kept {
    fn recall(&self) -> Later<'_, Option<String>> {
        Box::pin(async { Ok(self.0.lock().unwrap().clone()) })
    }

    fn remember(&self, generation: String) -> Later<'_, ()> {
        *self.0.lock().unwrap() = Some(generation);
        Box::pin(async { Ok(()) })
    }
}

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn quota(limit: u32, window_ms: u64) -> Quota {
    Quota::new(limit, Duration::from_millis(window_ms), limit).unwrap()
}

fn name<'a>(rule: &'a str, subject: &'a str) -> Name<'a> {
    Name::new("acme", rule, subject).unwrap()
}

async fn spend(redis: &Redis, rule: &str, quota: Quota, hits: u32) -> Result<bool, RedisError> {
    Ok(redis.spend(&[(name(rule, ""), quota, hits)]).await?.0)
}

fn ask(process: u64, sequence: u64, held: u32, want: u32, back: u32) -> Ask {
    Ask { process, sequence, held, want, need: want, give_back: back }
}

#[tokio::test]
async fn leases_and_spending_add_up_over_all_companions() {
    let server = Server::start(&[]).await;
    let (one, two) = (server.companion(), server.companion());
    let hour = quota(10, 3_600_000);
    let lease = async |redis: &Redis, ask: Ask| {
        let asked = Checked { name: name("login", "user=alice"), quota: hour, ask };
        redis.lease(&[asked]).await.unwrap()[0]
    };
    let first = lease(&one, ask(1, 1, 0, 4, 0)).await;
    assert_eq!((first.granted, first.remaining), (4, 6));
    // Twice the same: nothing.
    assert_eq!(lease(&two, ask(1, 1, 0, 4, 0)).await.granted, 0);
    // The other companion sees what is out; 1 of 4 is spent, 2 come back, 1 is kept.
    let second = lease(&two, ask(1, 2, 1, 0, 2)).await;
    assert_eq!((second.keep, second.granted, second.remaining), (1, 0, 8));
    let levels = [(name("login", "user=alice"), hour, 8), (name("api_call", ""), quota(7, 3_600_000), 8)];
    let (allowed, said) = two.spend(&levels).await.unwrap();
    // All or nothing: the first level had room, and has it still.
    assert!(!allowed && said[0].allowed && !said[1].allowed);
    assert_eq!((said[0].remaining, said[1].remaining), (8, 7));
    assert!(one.spend(&levels[..1]).await.unwrap().0);
    let (allowed, said) = one.spend(&levels[..1]).await.unwrap();
    assert!(!allowed);
    // Eight tokens of six minutes each.
    assert!((2_800..=2_880).contains(&(said[0].retry_after_ns / 1_000_000_000)), "{said:?}");
    let nothing = lease(&one, ask(2, 1, 0, 1, 0)).await;
    assert_eq!(nothing.granted, 0);
    assert!((350_000_000_000..=360_100_000_000).contains(&nothing.retry_after_ns), "{nothing:?}");
    let (one, two) = (one.totals(), two.totals());
    assert_eq!((one.granted, two.spent, two.returned, one.direct), (4, 1, 2, 8));
}

/// Many at once, of two companions, over some windows: no span admits more than burst + ceil(limit * t / window).
#[tokio::test(flavor = "multi_thread")]
async fn no_span_admits_too_many_under_load() {
    let server = Server::start(&[]).await;
    let companions = Arc::new([server.companion(), server.companion()]);
    let quota = quota(40, 500);
    let admitted: Arc<Mutex<Vec<(Instant, Instant)>>> = Arc::default();
    let end = Instant::now() + Duration::from_secs(3);
    let tasks: Vec<_> = (0..6_u64)
        .map(|number| {
            let (companions, admitted) = (Arc::clone(&companions), Arc::clone(&admitted));
            tokio::spawn(async move {
                let redis = &companions[usize::try_from(number % 2).unwrap()];
                let (mut held, mut ends) = (0, Instant::now());
                for sequence in 1.. {
                    let before = Instant::now();
                    if before > end {
                        break;
                    }
                    let mut count = 0;
                    if number < 3 {
                        if spend(redis, "hot", quota, 1).await.unwrap() {
                            count = 1;
                        }
                    } else if held > 0 && before < ends && sequence % 3 != 0 {
                        (count, held) = (held, 0);
                    } else {
                        held = if before < ends { held } else { 0 };
                        let asked =
                            Checked { name: name("hot", ""), quota, ask: ask(number, sequence, held, 7, 0) };
                        let grant = redis.lease(&[asked]).await.unwrap()[0];
                        held = held.min(grant.keep) + grant.granted;
                        ends = before + Duration::from_millis(grant.expires_ms);
                        tokio::time::sleep(Duration::from_millis(sequence % 70)).await;
                    }
                    let after = Instant::now();
                    admitted.lock().unwrap().extend((0..count).map(|_| (before, after)));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut admitted = admitted.lock().unwrap().clone();
    admitted.sort();
    for (first, (start, _)) in admitted.iter().enumerate() {
        for (last, (_, end)) in admitted.iter().enumerate().skip(first) {
            let most = 40 + (40 * end.duration_since(*start).as_nanos()).div_ceil(500_000_000);
            assert!(((last - first + 1) as u128) <= most, "{} in {:?}", last - first + 1, *end - *start);
        }
    }
    // 3 seconds of 80 a second, and a burst: it is used, not refused.
    assert!(admitted.len() > 200, "only {} admitted", admitted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_and_back_no_token_counts_twice() {
    let mut server = Server::start(&DURABLE).await;
    let companions = Arc::new([server.companion(), server.companion()]);
    let granted = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicU64::new(0));
    let hour = quota(600, 3_600_000);
    let tasks: Vec<_> = (0..4_usize)
        .map(|task| {
            let (companions, granted, stop) =
                (Arc::clone(&companions), Arc::clone(&granted), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut away = 0_u64;
                while stop.load(Ordering::SeqCst) == 0 {
                    match spend(&companions[task % 2], "login", hour, 1).await {
                        Ok(true) => drop(granted.fetch_add(1, Ordering::SeqCst)),
                        Ok(false) => tokio::time::sleep(Duration::from_millis(5)).await,
                        Err(_) => {
                            away += 1;
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
                away
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.again().await;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while granted.load(Ordering::SeqCst) < 560 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(1, Ordering::SeqCst);
    let mut away = 0;
    for task in tasks {
        away += task.await.unwrap();
    }
    assert!(away > 0, "it was never away");
    let granted = granted.load(Ordering::SeqCst);
    assert!((560..=601).contains(&granted), "{granted} of 600");
}

#[tokio::test]
async fn what_redis_lost_is_not_granted_again() {
    // Without an append-only file a Redis that dies has forgotten all.
    let mut server = Server::start(&[]).await;
    let redis = server.companion();
    assert_eq!(spend(&redis, "login", quota(5, 60_000), 5).await, Ok(true));
    server.kill();
    server.again().await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    let mut known = false;
    for _ in 0..20 {
        if let Ok(allowed) = spend(&redis, "login", quota(5, 60_000), 1).await {
            assert!(!allowed, "given twice");
            known = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(known);
    // Near miss: a limit whose window has passed since is whole again.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(spend(&redis, "other", quota(5, 60_000), 1).await, Ok(false));

    // Emptied while it runs.
    let server = Server::start(&[]).await;
    let redis = server.companion();
    assert_eq!(spend(&redis, "login", quota(5, 60_000), 5).await, Ok(true));
    let mut raw = server.raw().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<String>(&mut raw).await.unwrap();
    assert_eq!(spend(&redis, "login", quota(5, 60_000), 1).await, Ok(false));
    assert_eq!(spend(&redis, "login", quota(5, 60_000), 1).await, Ok(false));
    // Near miss: a first start, where nobody remembers anything, grants at once.
    let fresh = Server::start(&[]).await;
    assert_eq!(spend(&fresh.companion(), "login", quota(5, 60_000), 1).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_evict_counts_is_not_used_and_what_it_evicted_is_lost() {
    let server = Server::start(&["--maxmemory", "64mb", "--maxmemory-policy", "noeviction"]).await;
    let (redis, minute) = (server.companion(), quota(10, 60_000));
    assert!(spend(&redis, "login", minute, 10).await.unwrap(), "the whole of it");
    let mut raw = server.raw().await.unwrap();
    let mut set = async |name: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async::<()>(&mut raw).await.unwrap();
    };
    set("maxmemory-policy", "volatile-lru").await;
    for error in [redis.probe().await.unwrap_err(), spend(&redis, "login", minute, 1).await.unwrap_err()] {
        assert!(
            matches!(error, RedisError::Unsafe(_)) && error.to_string().contains("noeviction"),
            "{error}"
        );
    }
    assert!(matches!(spend(&server.companion(), "login", minute, 1).await, Err(RedisError::Unsafe(_))));
    // It takes the count, while somebody fills it; and is set right.
    set("maxmemory", "1").await;
    let _: redis::RedisResult<()> = redis::cmd("SET").arg("theirs").arg("x").query_async(&mut raw).await;
    let mut set = async |name: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async::<()>(&mut raw).await.unwrap();
    };
    set("maxmemory", "0").await;
    set("maxmemory-policy", "noeviction").await;
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut raw).await.unwrap();
    assert_eq!(keys, 1, "all that has an end was evicted, and the marker of them all was not");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!spend(&redis, "login", minute, 1).await.unwrap(), "nothing is given twice");
    assert!(redis.has_lost());
}

#[tokio::test]
async fn a_redis_that_is_away_is_told_at_once() {
    let mut server = Server::start(&DURABLE).await;
    let redis = server.companion();
    assert_eq!(spend(&redis, "login", quota(5, 60_000), 1).await, Ok(true));
    server.kill();
    assert!(spend(&redis, "login", quota(5, 60_000), 1).await.is_err());
    let started = Instant::now();
    for _ in 0..50 {
        let error = spend(&redis, "login", quota(5, 60_000), 1).await.unwrap_err();
        assert!(matches!(error, RedisError::Away(_)), "{error}");
    }
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    server.again().await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(spend(&redis, "login", quota(5, 60_000), 4).await, Ok(true));
    assert_eq!(spend(&redis, "login", quota(5, 60_000), 1).await, Ok(false));
}

#[tokio::test]
async fn a_cluster_takes_every_question_in_one_slot() {
    let server = Server::start(&["--cluster-enabled", "yes"]).await;
    let mut raw = server.raw().await.unwrap();
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("ADDSLOTSRANGE").arg(0).arg(16383).query_async::<String>(&mut raw).await.unwrap();
    for _ in 0..100 {
        let state: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut raw).await.unwrap();
        if state.contains("cluster_state:ok") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for tenant in ["acme", "a}b", "{x}", "}"] {
        let named = |rule| Name::new(tenant, rule, "user={alice}").unwrap();
        let keys = [marker(tenant), key(&named("login")), key(&named("api_call"))];
        let mut found = Vec::new();
        for key in &keys {
            let mut command = redis::cmd("CLUSTER");
            found.push(command.arg("KEYSLOT").arg(key).query_async::<u32>(&mut raw).await.unwrap());
        }
        assert!(found.iter().all(|slot| *slot == found[0]), "{keys:?}: {found:?}");
        // Redis itself refuses a script whose keys lie in several slots.
        let hour = quota(5, 3_600_000);
        let levels = [(named("login"), hour, 1), (named("api_call"), hour, 1)];
        assert!(server.companion().spend(&levels).await.unwrap().0);
    }
}
