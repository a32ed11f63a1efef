//! Rate limits through several worker threads: exact, whatever the workers do at the same time.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Barrier, OnceLock},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use xtask::{
    clock::Deadline,
    stack::{Edit, Piece, Upstream, statistic},
};

use crate::support::{
    application::Application,
    capture::Capture,
    client::{Connection, Request, Response},
    fresh_id,
    listeners::{self, Listener, type_url},
    message::Unframed,
    stage::{Stage, folder},
};

const WORKERS: usize = 4;
/// Over which [`storm`] sends.
pub const CONNECTIONS: usize = 32;

/// The demonstration's identity with rules of the test's own.
fn with_rules(rules: Value) -> Value {
    json!({
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}, {"client_ip": true}]},
        "rate_limit": {"rules": rules}
    })
}

struct Limits {
    stage: Stage,
    _application: Application,
    capture: Capture,
    exact: Listener,
    /// So large that workers debit it ahead of their requests.
    large: Listener,
    flowing: Listener,
    slow: Listener,
    /// With the limits that everybody starts with.
    usual: Listener,
    /// Three at the same time.
    at_once: Listener,
    /// Who tries too often is banned.
    banning: Listener,
    changing: Changing,
}

fn limits() -> &'static Limits {
    static SHARED: OnceLock<Limits> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let (application, capture) = (Application::start(), Capture::start());
        // So slow that nothing comes back while a test runs: the count is the burst, to the request.
        let exact = json!([
            {"name": "hourly", "per": ["tenant"], "limit": 100, "window": "1h"},
            {"name": "hourly-login", "action": "login", "per": ["tenant", "user"], "limit": 7, "window": "1h"}
        ]);
        let large = json!([{"name": "large", "per": ["tenant"], "limit": 3000, "window": "1h"}]);
        let flowing = json!([{"name": "flowing", "per": ["tenant"], "limit": 50, "window": "10s", "burst": 20}]);
        let slow = json!([{"name": "slow", "per": ["tenant"], "limit": 1, "window": "2s"}]);
        let exact = Listener::new("limits-exact", with_rules(exact));
        let large = Listener::new("limits-large", with_rules(large));
        let flowing = Listener::new("limits-flowing", with_rules(flowing));
        let slow = Listener::new("limits-slow", with_rules(slow));
        let mut usual = with_rules(json!([]));
        usual["rate_limit"] = json!({});
        let mut usual = Listener::new("limits-usual", usual);
        let route = json!({"cluster": "upstream"});
        usual.virtual_hosts = Some(json!([{"name": "application", "domains": ["*"], "routes": [
            {"match": {"prefix": "/open"}, "route": route,
                "metadata": {"filter_metadata": {"portcullis": {"config": r#"{"rate_limit": {"mode": "off"}}"#}}}},
            {"match": {"prefix": "/"}, "route": route},
        ]}]));
        let at_once =
            Listener::new("limits-at-once", with_rules(json!([{"name": "at-once", "concurrent": 3}])));
        let mut banning = with_rules(json!([
            {"name": "tries", "action": "login", "per": ["tenant", "user"], "limit": 1, "window": "1h"}
        ]));
        banning["rate_limit"]["bans"] = json!([{"name": "guessing", "per": ["tenant", "user"], "on_limited": ["tries"],
            "strikes": 3, "window": "5m", "first": "3s", "maximum": "1h"}]);
        let banning = Listener::new("limits-banning", banning);
        let changing = Changing::new();
        let fixed = [&exact, &large, &flowing, &slow, &usual, &at_once, &banning].map(Clone::clone).to_vec();
        let (upstream, ingest) = (application.host_port(), capture.port());
        let from_file = changing.edit();
        let stage = Stage::start("limits", |options| {
            options.pieces = vec![Piece::Envoy];
            options.concurrency = WORKERS;
            options.upstream = Upstream::At(upstream);
            options.ports.ingest = ingest;
            options.edits.extend([from_file, listeners::add(fixed)]);
        });
        Limits {
            stage,
            _application: application,
            capture,
            exact,
            large,
            flowing,
            slow,
            usual,
            at_once,
            banning,
            changing,
        }
    });
    shared.stage.watched();
    shared
}

/// A listener that Envoy takes from a file, and takes anew when the file is replaced.
struct Changing {
    listener: Listener,
    file: PathBuf,
    template: Arc<OnceLock<Value>>,
}

impl Changing {
    fn new() -> Self {
        let listener = Listener::new("limits-changing", Self::config(1));
        Self { listener, file: folder("limits").join("listeners.json"), template: Arc::default() }
    }

    fn config(generation: u32) -> Value {
        let mut config =
            with_rules(json!([{"name": "hourly", "per": ["tenant"], "limit": 50, "window": "1h"}]));
        config["headers"] = json!({"set": {"x-generation": generation.to_string()}});
        config
    }

    fn edit(&self) -> Edit {
        let (listener, file, template) =
            (self.listener.clone(), self.file.clone(), Arc::clone(&self.template));
        Edit::new(move |bootstrap| {
            let template = template.get_or_init(|| bootstrap["static_resources"]["listeners"][0].clone());
            Self::write(&file, &listener.render(template), 1);
            bootstrap["dynamic_resources"] =
                json!({"lds_config": {"resource_api_version": "V3", "path_config_source": {"path": file}}});
        })
    }

    /// Replaces the file, as Envoy wants it: by moving another one over it.
    fn write(file: &PathBuf, listener: &Value, generation: u32) {
        let mut resource = listener.clone();
        resource["@type"] = json!(type_url("envoy.config.listener.v3.Listener"));
        let draft = file.with_extension("draft");
        fs::write(
            &draft,
            json!({"version_info": generation.to_string(), "resources": [resource]}).to_string(),
        )
        .unwrap();
        fs::rename(&draft, file).unwrap();
    }

    fn configure(&self, generation: u32) {
        let listener = Listener { config: Self::config(generation), ..self.listener.clone() };
        Self::write(&self.file, &listener.render(self.template.get().unwrap()), generation);
    }
}

/// Sends a request again and again over many connections at once, until `goes_on` says no; how many were admitted and how
/// many were not. Any other answer fails.
pub fn storm(to: SocketAddr, request: &Request, goes_on: impl Fn(usize) -> bool + Sync) -> (usize, usize) {
    let barrier = Barrier::new(CONNECTIONS);
    thread::scope(|scope| {
        let run = || {
            let mut connection = Connection::open(to);
            let (mut admitted, mut refused) = (0, 0);
            barrier.wait();
            while goes_on(admitted + refused) {
                match connection.exchange(request).unwrap().status {
                    200 => admitted += 1,
                    429 => refused += 1,
                    status => panic!("answered {status}"),
                }
            }
            (admitted, refused)
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(run)).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.fold((0, 0), |(a, r), (admitted, refused)| (a + admitted, r + refused))
    })
}

#[test]
fn no_more_than_the_burst_and_no_less() {
    let shared = limits();
    let to = shared.exact.address();
    for tenant in ["exact-a", "exact-b"] {
        let request = Request::get("/").header("x-tenant-id", tenant);
        let (admitted, refused) = storm(to, &request, |sent| sent < 12);
        assert_eq!((admitted, refused), (100, 12 * CONNECTIONS - 100), "{tenant}");
    }
    // A login counts as a login and as a request, or as nothing: what the narrow rule refuses takes nothing from the
    // wide one.
    let login = Request::post("/login", "text/plain", "x")
        .header("x-tenant-id", "exact-c")
        .header("x-user-id", "alice");
    assert_eq!(storm(to, &login, |sent| sent < 2), (7, 2 * CONNECTIONS - 7));
    let other = Request::get("/").header("x-tenant-id", "exact-c");
    assert_eq!(storm(to, &other, |sent| sent < 4).0, 100 - 7);
    // Another user of that tenant finds no room either.
    let bob = Request::post("/login", "text/plain", "x")
        .header("x-tenant-id", "exact-c")
        .header("x-user-id", "bob");
    assert_eq!(bob.send(to).status, 429);
}

#[test]
fn of_a_limit_that_is_debited_ahead_no_more_is_admitted_and_hardly_less() {
    const LIMIT: usize = 3000;
    let to = limits().large.address();
    for tenant in ["large-a", "large-b"] {
        let request = Request::get("/").header("x-tenant-id", tenant);
        let whole = Deadline::after(Duration::MAX);
        let (admitted, _) = storm(to, &request, |sent| sent < 2 * LIMIT / CONNECTIONS);
        let back = LIMIT as u128 * whole.elapsed().as_nanos() / Duration::from_secs(3600).as_nanos();
        let most = LIMIT + usize::try_from(back).unwrap();
        assert!(admitted <= most, "{tenant}: {admitted} were admitted, {most} at most");
        assert!(admitted * 100 >= LIMIT * 98, "{tenant}: {admitted} of {LIMIT} were admitted");
    }
}

#[test]
fn several_workers_have_served() {
    let shared = limits();
    storm(shared.exact.address(), &Request::get("/").header("x-tenant-id", "workers"), |sent| sent < 4);
    let answer = Request::get(r"/stats?filter=limits-exact|listener.*worker.*downstream_cx_total")
        .send(shared.stage.stack.admin());
    let text = answer.text();
    let port = format!("_{}.", shared.exact.port);
    let busy = text
        .lines()
        .filter(|line| {
            line.contains(&port) && line.contains(".worker_") && line.contains("downstream_cx_total")
        })
        .filter(|line| !line.ends_with(": 0"))
        .count();
    assert!(busy >= 2, "one worker has done it all:\n{text}");
}

#[test]
fn what_comes_back_with_time_is_admitted_and_nothing_beyond() {
    const BURST: u32 = 20;
    // 50 in 10 seconds.
    const REFILL: Duration = Duration::from_millis(200);
    let shared = limits();
    let request = Request::get("/").header("x-tenant-id", "flowing");
    let whole = Deadline::after(Duration::MAX);
    let storming = Deadline::after(Duration::from_millis(2_500));
    let (admitted, refused) = storm(shared.flowing.address(), &request, |_| !storming.passed());
    let refills = |elapsed: Duration| u32::try_from(elapsed.as_nanos() / REFILL.as_nanos()).unwrap();
    let most = BURST + refills(whole.elapsed());
    let admitted = u32::try_from(admitted).unwrap();
    assert!(admitted <= most, "{admitted} were admitted, {most} at most");
    // The load was there all the time; only the first moments, until all connections stand, and the last refill are
    // not sure.
    assert!(admitted + 4 >= most, "{admitted} were admitted, though {most} had room; {refused} were refused");
}

#[test]
fn a_hundred_calls_a_minute_are_what_everybody_has() {
    const REFILL: Duration = Duration::from_millis(600);
    let shared = limits();
    let to = shared.usual.address();
    let whole = Deadline::after(Duration::MAX);
    let (admitted, _) = storm(to, &Request::get("/").header("x-tenant-id", "usual"), |sent| sent < 8);
    let most = 100 + usize::try_from(whole.elapsed().as_nanos() / REFILL.as_nanos()).unwrap();
    assert!((100..=most).contains(&admitted), "{admitted} were admitted, 100 to {most} should have been");
    // A route's metadata switches limits off, for that route alone.
    let open = Request::get("/open").header("x-tenant-id", "usual");
    assert_eq!(storm(to, &open, |sent| sent < 8), (8 * CONNECTIONS, 0));
}

#[test]
fn retry_after_is_the_truth() {
    let shared = limits();
    let to = shared.slow.address();
    let ask = |id: &str| Request::get("/").of("slow", id).send(to);
    let seconds = |answer: &Response| answer.header("retry-after").unwrap().parse::<u64>().unwrap();
    assert_eq!(ask(&fresh_id("slow")).status, 200);
    let admitted = Deadline::after(Duration::MAX);
    let id = fresh_id("slow");
    let refused = ask(&id);
    assert_eq!((refused.status, refused.reason().as_deref()), (429, Some("quota-exceeded")));
    assert_eq!(seconds(&refused), 2);
    assert_eq!(refused.header("ratelimit-policy").as_deref(), Some("\"slow\";q=1;w=2"));
    assert_eq!(refused.header("ratelimit").as_deref(), Some("\"slow\";r=0;t=2"));
    // Refusals cost nothing: asking all the time does not put it off.
    let again = Deadline::after(Duration::from_secs(10)).poll(|| {
        let answer = ask(&fresh_id("slow"));
        if answer.status == 200 {
            return Some(admitted.elapsed());
        }
        assert!(seconds(&answer) <= 2, "{answer:?}");
        None
    });
    let again = again.expect("is admitted again");
    // The first was admitted a moment before its answer was here.
    assert!(again > Duration::from_millis(1_900), "after {again:?} already");
    assert!(again < Duration::from_millis(2_600), "after {again:?} only");
    // Who waits exactly as long as he is told is admitted.
    let told = ask(&fresh_id("slow"));
    assert_eq!(told.status, 429);
    thread::sleep(Duration::from_secs(seconds(&told)));
    assert_eq!(ask(&fresh_id("slow")).status, 200);
    let record = shared.capture.record(&id);
    assert_eq!(record["unmapped"]["portcullis"]["event_type"], "RATE_LIMIT_EXCEEDED");
}

#[test]
fn a_new_configuration_keeps_the_counts() {
    let shared = limits();
    let to = shared.changing.listener.address();
    let ask = || Request::get("/").header("x-tenant-id", "kept").send(to);
    for _ in 0..30 {
        let answer = ask();
        assert_eq!((answer.status, answer.header("x-generation").as_deref()), (200, Some("1")));
    }
    shared.changing.configure(2);
    let other = Request::get("/").header("x-tenant-id", "another");
    let renewed = Deadline::after(Duration::from_secs(15))
        .poll(|| (other.send(to).header("x-generation").as_deref() == Some("2")).then_some(()));
    assert!(renewed.is_some(), "the new configuration does not arrive");
    let answers: Vec<Response> = (0..25).map(|_| ask()).collect();
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(admitted, 20, "30 of 50 were spent before");
}

#[test]
fn so_many_at_the_same_time_however_they_end() {
    let shared = limits();
    let (to, tenant) = (shared.at_once.address(), "at-once");
    let whole = Request::post("/", "text/plain", "0123456789").header("x-tenant-id", tenant);
    let begin = || {
        let mut connection = Connection::open(to);
        connection.send_bytes(&whole.head()).unwrap();
        connection
    };
    let under_way = |count: u64| {
        let active = || statistic(shared.stage.stack.admin(), "http.limits-at-once.downstream_rq_active");
        let met =
            Deadline::after(Duration::from_secs(15)).poll(|| (active().ok()? == Some(count)).then_some(()));
        assert!(met.is_some(), "{count} should be under way");
    };
    let ask = |tenant: &str| Request::get("/").header("x-tenant-id", tenant).send(to);
    let mut open: Vec<Connection> = (0..3).map(|_| begin()).collect();
    under_way(3);
    let refused = ask(tenant);
    assert_eq!((refused.status, refused.reason().as_deref()), (429, Some("quota-exceeded")));
    assert_eq!(ask("at-once-too").status, 200, "another tenant has places of its own");
    // One client goes away in the middle of its request, another gets its answer.
    drop(open.pop());
    under_way(2);
    assert_eq!(ask(tenant).status, 200);
    let mut third = begin();
    under_way(3);
    assert_eq!(ask(tenant).status, 429);
    third.send_bytes(b"0123456789").unwrap();
    assert_eq!(third.receive(Unframed::UntilClose, false).unwrap().unwrap().status, 200);
    under_way(2);
    assert_eq!(ask(tenant).status, 200);
}

#[test]
fn who_exceeds_a_limit_again_and_again_is_banned_for_longer_each_time() {
    let shared = limits();
    let to = shared.banning.address();
    let of = |request: Request, user: &str| {
        request.header("x-tenant-id", "banning").header("x-user-id", user).send(to)
    };
    let login = || of(Request::post("/login", "text/plain", "x"), "mallory");
    let look = |user: &str| of(Request::get("/"), user);
    assert_eq!(login().status, 200);
    for length in [3, 6] {
        for _ in 0..3 {
            let refused = login();
            assert_eq!((refused.status, refused.reason().as_deref()), (429, Some("quota-exceeded")));
        }
        // The last strike counts when its stream is over, a moment after its answer.
        let banned = Deadline::after(Duration::from_secs(1)).poll(|| {
            let answer = look("mallory");
            (answer.reason().as_deref() == Some("banned")).then_some(answer)
        });
        let banned = banned.expect("three strikes are a ban");
        assert_eq!(banned.status, 429);
        let wait: u64 = banned.header("retry-after").unwrap().parse().unwrap();
        assert!((length - 1..=length).contains(&wait), "{wait} s of {length}");
        assert_eq!(look("alice").status, 200, "another user is not banned");
        let free = Deadline::after(Duration::from_secs(length + 5))
            .poll(|| (look("mallory").status == 200).then_some(()));
        assert!(free.is_some(), "a ban of {length} s does not end");
    }
}
