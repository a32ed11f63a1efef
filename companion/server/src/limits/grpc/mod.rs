//! Envoy's own rate limit service, `envoy.service.ratelimit.v3.RateLimitService`: for an Envoy without our module, in place
//! of envoyproxy/ratelimit, with the same configuration ([`config`]) and by the same counts as everything else here.
//!
//! The domain `portcullis` needs no configuration: its descriptors are `tenant`, `action` and, where the action counts per
//! user, `user`, and they are the modules' own limits under the tenant's policy.
//!
//! What differs from envoyproxy/ratelimit: limits are exact over any span (GCRA), not per calendar window; the descriptors of a
//! request count all or none; negative hits are not credited. Per-request limits (`limit` of a descriptor), `hits_addend`,
//! `shadow_mode`, `unlimited` and the response headers are as there.
//!
//! Against: strangers, as far as they cannot reach the loopback or show the token. Limits: 64 KiB a message, 32
//! descriptors, 1024 requests at once on a connection, and as many connections as the ingest listener takes, on the same terms.

pub mod config;
pub mod messages;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use portcullis_limits::key::{Name, SUBJECT_BYTES};
use portcullis_limits::quota::Quota;
use portcullis_limits::step::Spent;
use portcullis_policy::User;
use sha2::{Digest, Sha256};
use tonic::server::{Grpc, NamedService, UnaryService};

use super::{Cost, Limits, LimitsError, Rule};
use crate::metrics::Counter;
use crate::secret::Secret;
use crate::tenant::TenantId;
use config::{Config, Limit, OWN_DOMAIN};
use messages::{
    Code, CurrentLimit, Descriptor, Duration, HeaderValue, RateLimitRequest, RateLimitResponse, Status, Unit,
};

const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const MESSAGE_BYTES: usize = 64 * 1024;
const DESCRIPTORS: usize = 32;
const RULE: &str = "descriptor";

/// What the service needs.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Arc<Limits>,
    config: Config,
    token: Option<Secret>,
    headers: bool,
    ok: Counter,
    over: Counter,
    failed: Counter,
}

/// A descriptor that has a limit.
struct Limited {
    /// Its number in the request.
    index: usize,
    tenant: String,
    rule: &'static str,
    subject: String,
    quota: Quota,
    shown: CurrentLimit,
    hits: u32,
    configured: Option<Arc<Limit>>,
}

impl Service {
    /// Answers by `config`, from `limits`.
    #[must_use]
    pub fn new(limits: Arc<Limits>, config: Config, token: Option<Secret>, headers: bool) -> Self {
        let (ok, over, failed) = Default::default();
        Self { inner: Arc::new(Inner { limits, config, token, headers, ok, over, failed }) }
    }

    /// Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let Inner { config, ok, over, failed, .. } = &*self.inner;
        let mut text = String::from(
            "# HELP portcullis_limits_grpc_total Answers of Envoy's rate limit service.\n# TYPE portcullis_limits_grpc_total counter\n",
        );
        for (code, counter) in [("ok", ok), ("over_limit", over), ("failed", failed)] {
            text.push_str(&format!("portcullis_limits_grpc_total{{code=\"{code}\"}} {}\n", counter.value()));
        }
        if !config.limits().is_empty() {
            text.push_str("# HELP portcullis_limits_descriptor_total Requests within and over a configured limit.\n# TYPE portcullis_limits_descriptor_total counter\n");
        }
        for limit in config.limits() {
            // Names come from the configuration; a quote or line break in one must not become text.
            let name: String =
                limit.name.chars().filter(|c| !matches!(c, '"' | '\\') && !c.is_control()).collect();
            for (result, counter) in [("within", &limit.within), ("over", &limit.over)] {
                text.push_str(&format!(
                    "portcullis_limits_descriptor_total{{limit=\"{name}\",result=\"{result}\"}} {}\n",
                    counter.value()
                ));
            }
        }
        text
    }

    /// Its only route.
    pub fn router(self) -> Router {
        tonic::service::Routes::new(self).into_axum_router()
    }

    /// Answers one request.
    ///
    /// # Errors
    /// What Envoy's `failure_mode_deny` decides on.
    pub async fn answer(&self, request: RateLimitRequest) -> Result<RateLimitResponse, tonic::Status> {
        let inner = &*self.inner;
        let answered = inner.answer(request).await;
        match &answered {
            Ok(response) if response.overall_code == i32::from(Code::OverLimit) => inner.over.add(1),
            Ok(_) => inner.ok.add(1),
            Err(_) => inner.failed.add(1),
        }
        answered
    }
}

impl Inner {
    async fn answer(&self, request: RateLimitRequest) -> Result<RateLimitResponse, tonic::Status> {
        let RateLimitRequest { domain, descriptors, hits_addend } = request;
        if domain.is_empty() || descriptors.is_empty() || descriptors.len() > DESCRIPTORS {
            return Err(tonic::Status::invalid_argument(format!(
                "a request has a domain and 1 to {DESCRIPTORS} descriptors"
            )));
        }
        let within = Status { code: Code::Ok.into(), ..Status::default() };
        let mut statuses = vec![within; descriptors.len()];
        let mut limited = Vec::with_capacity(descriptors.len());
        for (index, descriptor) in descriptors.iter().enumerate() {
            if let Some(found) = self.find(&domain, index, descriptor, hits_addend).await? {
                limited.push(found);
            }
        }
        let shadow = |limited: &Limited| limited.configured.as_ref().is_some_and(|limit| limit.shadow);
        let (shadows, enforced): (Vec<Limited>, Vec<Limited>) = limited.into_iter().partition(shadow);
        let mut over = false;
        if !enforced.is_empty() {
            let said = self.spend(&enforced).await?;
            for (limited, spent) in enforced.iter().zip(said) {
                over |= !spent.allowed;
                if let Some(status) = statuses.get_mut(limited.index) {
                    *status = limited.status(&spent, false);
                }
            }
        }
        if !over {
            for limited in &shadows {
                let said = self.spend(std::slice::from_ref(limited)).await?;
                if let (Some(spent), Some(status)) = (said.first(), statuses.get_mut(limited.index)) {
                    *status = limited.status(spent, true);
                }
            }
        }
        let overall_code = if over { Code::OverLimit } else { Code::Ok }.into();
        let response_headers_to_add = if self.headers { headers(&statuses, over) } else { Vec::new() };
        Ok(RateLimitResponse { overall_code, statuses, response_headers_to_add })
    }

    async fn spend(&self, limited: &[Limited]) -> Result<Vec<Spent>, tonic::Status> {
        let mut costs = Vec::with_capacity(limited.len());
        for one in limited {
            let name = Name::new(&one.tenant, one.rule, &one.subject)
                .map_err(|error| tonic::Status::invalid_argument(error.to_string()))?;
            costs.push(Cost { name, quota: one.quota, hits: one.hits });
        }
        let (_, said) = self.limits.spend(&costs).await.map_err(|error| away(&error))?;
        Ok(said)
    }

    async fn find(
        &self,
        domain: &str,
        index: usize,
        descriptor: &Descriptor,
        hits_addend: u32,
    ) -> Result<Option<Limited>, tonic::Status> {
        let hits = match descriptor.hits_addend {
            _ if descriptor.is_negative_hits => 0,
            Some(own) => u32::try_from(own.value).unwrap_or(u32::MAX),
            None => hits_addend.max(1),
        };
        if domain == OWN_DOMAIN {
            return self.own(index, descriptor, hits).await.map(Some);
        }
        if !self.config.knows(domain) && descriptor.limit.is_none() {
            return Ok(None);
        }
        let configured = self.config.find(domain, &descriptor.entries).cloned();
        let numbers = match descriptor.limit {
            Some(own) => Unit::try_from(own.unit).ok().and_then(|unit| {
                config::quota(own.requests_per_unit, unit).map(|quota| (own.requests_per_unit, unit, quota))
            }),
            None => configured.as_ref().and_then(|limit| limit.numbers),
        };
        let Some((requests_per_unit, unit, quota)) = numbers else { return Ok(None) };
        let name = configured.as_ref().map(|limit| limit.name.clone()).unwrap_or_default();
        Ok(Some(Limited {
            index,
            tenant: format!("grpc/{domain}"),
            rule: RULE,
            subject: subject(descriptor),
            quota,
            shown: CurrentLimit { requests_per_unit, unit: unit.into(), name },
            hits,
            configured,
        }))
    }

    /// The modules' own limits.
    async fn own(&self, index: usize, descriptor: &Descriptor, hits: u32) -> Result<Limited, tonic::Status> {
        let wrong = |text: &'static str| tonic::Status::invalid_argument(text);
        let value = |name: &str| {
            descriptor.entries.iter().find(|entry| entry.key == name).map(|entry| entry.value.as_str())
        };
        let tenant = value("tenant").and_then(|name| TenantId::new(name).ok());
        let tenant = tenant.ok_or_else(|| wrong("an entry `tenant` must name one"))?;
        let rule = value("action").and_then(Rule::of_action).ok_or_else(|| {
            wrong("an entry `action` must be api_call, login, file_upload or report_generation")
        })?;
        let user = value("user").and_then(|name| User::new(name.as_bytes()));
        if user.is_none() && rule != Rule::ApiCall {
            return Err(wrong("an entry `user` must name who"));
        }
        let quota = self.limits.policies.quota(&tenant, rule).await.map_err(|error| away(&error))?;
        let quota = quota.ok_or_else(|| wrong("the tenant's policy has a rate that cannot be counted"))?;
        let shown = CurrentLimit {
            requests_per_unit: quota.limit(),
            unit: Unit::Minute.into(),
            name: rule.name().to_owned(),
        };
        let subject = rule.subject(user.as_ref().map_or("", User::as_str));
        let (tenant, rule) = (tenant.as_str().to_owned(), rule.name());
        Ok(Limited { index, tenant, rule, subject, quota, shown, hits, configured: None })
    }
}

impl Limited {
    fn status(&self, spent: &Spent, shadow: bool) -> Status {
        if let Some(limit) = &self.configured {
            if spent.allowed { limit.within.add(1) } else { limit.over.add(1) }
        }
        let code = if spent.allowed || shadow { Code::Ok } else { Code::OverLimit };
        // Of what is used up, so much has to come back.
        let used = u64::from(self.quota.burst()).saturating_sub(spent.remaining);
        let whole = u128::from(self.quota.refill_ns()) * u128::from(used);
        let whole = whole.checked_div(u128::from(self.quota.burst())).unwrap_or(0);
        let reset_ns = match spent.retry_after_ns {
            0 => u64::try_from(whole).unwrap_or(u64::MAX),
            wait => wait,
        };
        const SECOND: u64 = 1_000_000_000;
        Status {
            code: code.into(),
            current_limit: Some(self.shown.clone()),
            limit_remaining: u32::try_from(spent.remaining).unwrap_or(u32::MAX),
            duration_until_reset: Some(Duration {
                seconds: i64::try_from(reset_ns / SECOND).unwrap_or(i64::MAX),
                nanos: i32::try_from(reset_ns % SECOND).unwrap_or(0),
            }),
        }
    }
}

/// A descriptor's entries as one text; what is too long or unprintable becomes a hash of the whole.
fn subject(descriptor: &Descriptor) -> String {
    let mut text = String::with_capacity(64);
    for entry in &descriptor.entries {
        // Lengths keep entries apart, whatever they hold.
        text.push_str(&format!("{}:{}={}:{};", entry.key.len(), entry.key, entry.value.len(), entry.value));
    }
    if text.len() <= SUBJECT_BYTES && !text.chars().any(char::is_control) {
        return text;
    }
    format!("#{}", crate::secret::hex(&Sha256::digest(text.as_bytes())))
}

/// Names and meaning as in envoyproxy/ratelimit: of the descriptor that has least left.
fn headers(statuses: &[Status], over: bool) -> Vec<HeaderValue> {
    let limited = statuses.iter().filter(|status| status.current_limit.is_some());
    let refusing = |status: &&Status| !over || status.code == i32::from(Code::OverLimit);
    let Some(status) = limited.filter(refusing).min_by_key(|status| status.limit_remaining) else {
        return Vec::new();
    };
    let limit = status.current_limit.as_ref().map_or(0, |limit| limit.requests_per_unit);
    let reset = status.duration_until_reset.map_or(0, |until| until.seconds + i64::from(until.nanos > 0));
    let header =
        |key: &str, value: String| HeaderValue { key: key.to_owned(), value, ..HeaderValue::default() };
    let mut headers = vec![
        header("ratelimit-limit", limit.to_string()),
        header("ratelimit-remaining", status.limit_remaining.to_string()),
        header("ratelimit-reset", reset.to_string()),
    ];
    if over {
        headers.push(header("retry-after", reset.max(1).to_string()));
    }
    headers
}

fn away(error: &LimitsError) -> tonic::Status {
    tracing::error!(category = "application", %error, "a rate limit request was not counted");
    tonic::Status::unavailable("the store of the limits does not answer")
}

/// Where the service listens.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address.
    pub address: SocketAddr,
    /// What a caller must show; never `None` beyond the loopback.
    pub token: Option<Secret>,
    /// The file or folder of descriptors.
    pub config: Option<std::path::PathBuf>,
    /// Whether answers carry headers for the client.
    pub headers: bool,
}

type Answering<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

struct Method(Service);

impl UnaryService<RateLimitRequest> for Method {
    type Response = RateLimitResponse;
    type Future = Answering<tonic::Response<RateLimitResponse>, tonic::Status>;

    fn call(&mut self, request: tonic::Request<RateLimitRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            if let Some(token) = &service.inner.token {
                let shown = request.metadata().get("authorization").map(|value| value.as_bytes());
                let shown = shown.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
                if !token.matches(shown) {
                    return Err(tonic::Status::unauthenticated("send the token in LIMITS_GRPC_TOKEN"));
                }
            }
            service.answer(request.into_inner()).await.map(tonic::Response::new)
        })
    }
}

impl NamedService for Service {
    const NAME: &'static str = SERVICE;
}

impl tower_service::Service<axum::http::Request<tonic::body::Body>> for Service {
    type Response = axum::http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Answering<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<tonic::body::Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != METHOD {
                return Ok(tonic::Status::unimplemented("there is ShouldRateLimit alone").into_http());
            }
            let codec = tonic_prost::ProstCodec::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES);
            Ok(grpc.unary(Method(service), request).await)
        })
    }
}
