//! Envoy's rate limit service over real HTTP/2, as Envoy calls it.

use std::sync::Arc;
use std::time::Duration;

use portcullis_server::limits::grpc::Place;
use portcullis_server::limits::grpc::messages::{
    Code, Descriptor, Entry, Override, RateLimitRequest, RateLimitResponse, UInt64Value, Unit,
};
use portcullis_server::secret::Secret;
use serde_json::json;
use tonic::client::Grpc;
use tonic::transport::Channel;

use crate::support::{Running, Store};

const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const CONFIG: &str = r"
domain: shop
descriptors:
  - key: tenant
    rate_limit: {name: tenants, unit: hour, requests_per_unit: 6}
    descriptors:
      - key: path
        value: /login
        rate_limit: {unit: hour, requests_per_unit: 2}
      - key: path
        value: /free
        rate_limit: {unlimited: true}
  - key: tried
    rate_limit: {unit: hour, requests_per_unit: 1}
    shadow_mode: true
";

struct Client(Grpc<Channel>);

impl Client {
    async fn of(running: &Running) -> Self {
        let address = format!("http://{}", running.companion.grpc_address.unwrap());
        Self(Grpc::new(Channel::from_shared(address).unwrap().connect().await.unwrap()))
    }

    async fn ask(
        &mut self,
        request: RateLimitRequest,
        token: Option<&str>,
    ) -> Result<RateLimitResponse, tonic::Status> {
        self.0.ready().await.unwrap();
        let mut request = tonic::Request::new(request);
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let codec = tonic_prost::ProstCodec::default();
        self.0.unary(request, METHOD.parse().unwrap(), codec).await.map(tonic::Response::into_inner)
    }

    async fn code(&mut self, domain: &str, entries: &[(&str, &str)]) -> Code {
        let request = request(domain, &[entries]);
        Code::try_from(self.ask(request, None).await.unwrap().overall_code).unwrap()
    }
}

fn descriptor(entries: &[(&str, &str)]) -> Descriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
    Descriptor { entries: entries.iter().map(entry).collect(), ..Descriptor::default() }
}

fn request(domain: &str, descriptors: &[&[(&str, &str)]]) -> RateLimitRequest {
    RateLimitRequest {
        domain: domain.into(),
        descriptors: descriptors.iter().map(|entries| descriptor(entries)).collect(),
        hits_addend: 0,
    }
}

async fn start(token: Option<&str>, headers: bool) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("limits.yaml");
    std::fs::write(&config, CONFIG).unwrap();
    let token = token.map(|token| Secret::new("LIMITS_GRPC_TOKEN", token.to_owned(), 16).unwrap());
    let place = Place { address: ([127, 0, 0, 1], 0).into(), token, config: Some(config), headers };
    Running::started_with(Store::Sqlite, |settings| settings.grpc = Some(place)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_are_limited_as_configured() {
    let running = start(None, true).await;
    let mut client = Client::of(&running).await;
    let login: &[(&str, &str)] = &[("tenant", "acme"), ("path", "/login")];
    assert_eq!(client.code("shop", login).await, Code::Ok);
    assert_eq!(client.code("shop", login).await, Code::Ok);
    assert_eq!(client.code("shop", login).await, Code::OverLimit);
    // Near misses: another value, another domain, a path without a limit, one without end.
    assert_eq!(client.code("shop", &[("tenant", "beta"), ("path", "/login")]).await, Code::Ok);
    assert_eq!(client.code("other", login).await, Code::Ok);
    for _ in 0..20 {
        assert_eq!(client.code("shop", &[("tenant", "acme"), ("path", "/free")]).await, Code::Ok);
        assert_eq!(client.code("shop", &[("tenant", "acme"), ("path", "/else")]).await, Code::Ok);
        assert_eq!(client.code("shop", &[("tried", "x")]).await, Code::Ok);
    }
    // All descriptors of a request, or none: the refused login takes nothing from the tenant.
    let both = request("shop", &[&[("tenant", "acme")], login]);
    let refused = client.ask(both, None).await.unwrap();
    assert_eq!(refused.overall_code, i32::from(Code::OverLimit));
    let codes: Vec<i32> = refused.statuses.iter().map(|status| status.code).collect();
    assert_eq!(codes, [i32::from(Code::Ok), i32::from(Code::OverLimit)]);
    assert_eq!(refused.statuses[0].limit_remaining, 6);
    let limit = refused.statuses[0].current_limit.clone().unwrap();
    assert_eq!((limit.name.as_str(), limit.requests_per_unit, limit.unit), ("tenants", 6, Unit::Hour.into()));
    let header = |name: &str| {
        refused.response_headers_to_add.iter().find(|header| header.key == name).unwrap().value.clone()
    };
    assert_eq!((header("ratelimit-limit"), header("ratelimit-remaining")), ("2".into(), "0".into()));
    assert!((1795..=1800).contains(&header("retry-after").parse::<u32>().unwrap()));

    let text = running.get("/metrics", Some(&running.admin())).await.body;
    for line in [
        "portcullis_limits_grpc_total{code=\"over_limit\"} 2",
        "portcullis_limits_descriptor_total{limit=\"shop.tenant.path_/login\",result=\"over\"} 2",
        "portcullis_limits_descriptor_total{limit=\"shop.tried\",result=\"over\"} 19",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_and_limits_of_the_request_rule() {
    let running = start(None, false).await;
    let mut client = Client::of(&running).await;
    let mut six = request("shop", &[&[("tenant", "acme")]]);
    six.hits_addend = 5;
    assert_eq!(client.ask(six.clone(), None).await.unwrap().statuses[0].limit_remaining, 1);
    assert_eq!(client.ask(six.clone(), None).await.unwrap().overall_code, i32::from(Code::OverLimit));
    six.descriptors[0].hits_addend = Some(UInt64Value { value: 0 });
    let looked = client.ask(six.clone(), None).await.unwrap();
    assert_eq!((looked.overall_code, looked.statuses[0].limit_remaining), (Code::Ok.into(), 1));
    six.descriptors[0].hits_addend = Some(UInt64Value { value: 1 });
    let last = client.ask(six.clone(), None).await.unwrap();
    assert_eq!((last.overall_code, last.statuses[0].limit_remaining), (Code::Ok.into(), 0));
    assert!(last.response_headers_to_add.is_empty());
    // A descriptor that brings its own limit is limited by it, configured or not.
    let mut own = request("unknown", &[&[("k", "v")]]);
    own.descriptors[0].limit = Some(Override { requests_per_unit: 1, unit: Unit::Day.into() });
    assert_eq!(client.ask(own.clone(), None).await.unwrap().overall_code, i32::from(Code::Ok));
    assert_eq!(client.ask(own, None).await.unwrap().overall_code, i32::from(Code::OverLimit));
    // What is no request.
    let one: &[(&str, &str)] = &[("a", "b")];
    for bad in [request("", &[one]), request("shop", &[]), request("shop", &[one; 33])] {
        assert_eq!(client.ask(bad, None).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
    let huge = "x".repeat(5000);
    assert_eq!(client.code("shop", &[("tenant", &huge), ("path", "/login")]).await, Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_modules_limits_are_shared() {
    let running = start(None, false).await;
    running.add_tenant("acme").await;
    let mut client = Client::of(&running).await;
    let alice: &[(&str, &str)] = &[("tenant", "acme"), ("action", "login"), ("user", "alice")];
    for _ in 0..3 {
        assert_eq!(client.code("portcullis", alice).await, Code::Ok);
    }
    let body = json!({"tenant": "acme", "user": "alice", "action": "login"});
    let check = async || {
        running.post("/api/security/rate-limit/check", &body, &running.of_tenant("acme")).await.json()
    };
    assert_eq!(check().await["remaining"], 1);
    check().await;
    assert_eq!(client.code("portcullis", alice).await, Code::OverLimit);
    for bad in [
        &[("action", "login"), ("user", "alice")][..],
        &[("tenant", "acme"), ("action", "dance"), ("user", "alice")],
        &[("tenant", "acme"), ("action", "login")],
    ] {
        let error = client.ask(request("portcullis", &[bad]), None).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_where_one_is_set() {
    const TOKEN: &str = "a token of the rate limit service";
    let running = start(Some(TOKEN), false).await;
    let mut client = Client::of(&running).await;
    let question = || request("shop", &[&[("tenant", "acme")]]);
    for wrong in [None, Some("another token of that length!!!!!")] {
        let error = client.ask(question(), wrong).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unauthenticated);
    }
    assert!(client.ask(question(), Some(TOKEN)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_never_pass_more_than_the_limit() {
    let running = Arc::new(start(None, false).await);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let running = Arc::clone(&running);
            tokio::spawn(async move {
                let mut client = Client::of(&running).await;
                let mut passed = 0;
                for _ in 0..25 {
                    let code = client.code("shop", &[("tenant", "acme")]).await;
                    passed += usize::from(code == Code::Ok);
                }
                passed
            })
        })
        .collect();
    let mut passed = 0;
    for task in tasks {
        passed += tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
    }
    assert_eq!(passed, 6);
}

/// An Envoy with its own filter and no module; ends with the test.
struct Envoy {
    child: std::process::Child,
    address: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

impl Envoy {
    async fn start(running: &Running) -> Self {
        let port = xtask::ports::free().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("envoy.json");
        let (limits, app) = (running.companion.grpc_address.unwrap(), running.companion.api_address.unwrap());
        std::fs::write(&file, bootstrap(port, limits.port(), app.port()).to_string()).unwrap();
        let binary = xtask::layout::Layout::of_this_checkout().envoy().unwrap();
        let mut command = std::process::Command::new(binary);
        command
            .args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "error", "-c"])
            .arg(&file);
        let envoy =
            Self { child: command.spawn().unwrap(), address: ([127, 0, 0, 1], port).into(), _folder: folder };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(envoy.address).await.is_ok() {
                return envoy;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("Envoy does not listen");
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bootstrap(port: u16, limits: u16, app: u16) -> serde_json::Value {
    let cluster = |name: &str, port: u16, options: serde_json::Value| {
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        json!({"name": name, "type": "STATIC", "connect_timeout": "5s", "typed_extension_protocol_options": options,
            "load_assignment": {"cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}})
    };
    let http2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}});
    let by_tenant =
        json!([{"actions": [{"request_headers": {"header_name": "x-tenant", "descriptor_key": "tenant"}}]}]);
    let filter = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        "domain": "shop", "failure_mode_deny": true, "timeout": "10s",
        "rate_limit_service": {"transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "limits"}}}
    });
    let router = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"});
    json!({"static_resources": {
        "clusters": [cluster("limits", limits, http2), cluster("app", app, json!({}))],
        "listeners": [{
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "t",
                    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
                        "match": {"prefix": "/"},
                        "route": {"cluster": "app", "prefix_rewrite": "/monitoring/liveness", "rate_limits": by_tenant}
                    }]}]},
                    "http_filters": [
                        {"name": "envoy.filters.http.ratelimit", "typed_config": filter},
                        {"name": "envoy.filters.http.router", "typed_config": router}
                    ]
                }
            }]}]
        }]
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn two_envoys_without_a_module_share_a_limit_exactly() {
    let running = start(None, true).await;
    let envoys = [Envoy::start(&running).await, Envoy::start(&running).await];
    let get = async |envoy: usize, tenant: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: t\r\nx-tenant: {tenant}\r\nConnection: close\r\n\r\n");
        crate::support::send(envoys[envoy].address, request.as_bytes()).await
    };
    let mut passed = 0;
    for number in 0..20 {
        let answer = get(number % 2, "acme").await;
        match answer.status {
            200 => passed += 1,
            429 => {
                let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!((595..=600).contains(&wait), "{wait}");
                assert_eq!(answer.header("ratelimit-remaining"), Some("0"));
            }
            status => panic!("{status}: {}", answer.body),
        }
    }
    assert_eq!(passed, 6);
    // Near miss: another tenant's limit is whole.
    assert_eq!(get(0, "beta").await.status, 200);
    // The service gone: the filter's own failure mode decides, and nothing is admitted.
    running.companion.stop().await.unwrap();
    assert!(get(1, "gamma").await.status >= 500);
}
