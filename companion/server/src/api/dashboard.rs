//! The dashboard: one page at `/`, and the session that it is signed in by.
//!
//! The page holds no data; it asks the API for it. Who signs in shows a token once and gets a cookie for the same scope, which scripts cannot
//! read (`HttpOnly`), which no other site can make a browser send (`SameSite=Strict`), and which ends with the token, and after eight hours
//! at most. The cookie's value is no token: it is taken from the cookie alone, and nobody signs in with it. Against cross-site request
//! forgery, requests that change something and come with the cookie must show a token beside it that only the page's own origin can
//! read. Against injected script: the page's Content-Security-Policy names the hashes of its two scripts, and every value is set as
//! text.
//! Not against: who has the browser; signing out takes the cookie from it, and a copy of its value is good until its end. Limits: 4 KiB to
//! sign in; guesses are counted as those of tokens.

use std::sync::LazyLock;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Api;
use crate::clock::{monotonic, rfc3339};
use crate::http::access::Peer;
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::token::{Grant, Scope, TokenError};

/// The cookie's name.
pub const COOKIE: &str = "portcullis_dashboard";
/// The header that requests with the cookie show.
const CSRF_HEADER: &str = "x-csrf-token";
/// The longest session.
const LIFE: Duration = Duration::from_secs(8 * 60 * 60);
const MAX_BODY_BYTES: usize = 4 * 1024;

/// The page, put together once.
static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

struct Page {
    html: String,
    policy: String,
}

impl Page {
    fn new() -> Self {
        // Of uPlot (MIT), vendored at build; empty in a build without it.
        let charts = include_str!(concat!(env!("OUT_DIR"), "/charts.js"));
        let app = [
            include_str!("../../dashboard/base.js"),
            include_str!("../../dashboard/plans.js"),
            include_str!("../../dashboard/limits.js"),
            include_str!("../../dashboard/watching.js"),
            include_str!("../../dashboard/graphs.js"),
            include_str!("../../dashboard/tenants.js"),
            include_str!("../../dashboard/app.js"),
        ]
        .concat();
        let style = [
            include_str!(concat!(env!("OUT_DIR"), "/charts.css")),
            include_str!("../../dashboard/style.css"),
        ]
        .concat();
        let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
        let policy = format!(
            "default-src 'none'; script-src {} {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
            hash(charts),
            hash(&app),
            hash(&style)
        );
        let html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Portcullis</title><link rel=\"icon\" href=\"data:,\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{style}</style></head>\
             <body>{}<script>{charts}</script><script>{app}</script></body></html>\n",
            include_str!("../../dashboard/index.html")
        );
        Self { html, policy }
    }
}

/// The page, for everybody: it tells nothing.
pub async fn page() -> Response {
    let mut response = PAGE.html.as_str().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::from_str(&PAGE.policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A token to sign in with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    token: String,
}

/// Who is signed in.
#[derive(Serialize)]
struct Session {
    /// `admin` or `tenant`.
    scope: &'static str,
    tenant_id: Option<String>,
    /// To be shown in `x-csrf-token` by requests that change something.
    csrf_token: String,
    /// RFC 3339, UTC.
    expires: String,
}

/// Takes a token and gives a cookie.
pub async fn sign_in(
    State(api): State<Api>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    same_origin(&headers)?;
    let shown: SignIn = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let peer = peer.map_or(Peer(None), |Extension(peer)| peer);
    let now = api.clock.now();
    let grant = api.tokens.verify(&shown.token, now).map_err(|error| {
        match error != TokenError::Invalid || api.guesses.count(peer, monotonic()) {
            true => Problem::unauthorized_as("the token is not valid; `portcullis token` prints one"),
            false => Problem::too_many("too many tokens that are not valid came from this address"),
        }
    })?;
    if grant.scope == Scope::Admin && !api.admin_allow.allows(peer) {
        let detail = "the admin scope is not for this address; see ADMIN_ALLOW";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    let left = u64::try_from(grant.expires.as_second().saturating_sub(now.as_second())).unwrap_or(0);
    let life = LIFE.min(Duration::from_secs(left));
    let end = now.checked_add(life).unwrap_or(now);
    let cookie = api
        .tokens
        .issue_session(&grant, end)
        .map_err(|_| Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR))?;
    tracing::info!(category = "audit", token_id = grant.id, "signed in to the dashboard");
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, &api, &cookie, life);
    Ok(response)
}

/// Who is signed in, and what the page shows beside the cookie.
pub async fn session(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let csrf_token = cookie(&headers).and_then(|cookie| api.tokens.csrf(cookie));
    let csrf_token = csrf_token
        .ok_or_else(|| Problem::unauthorized_as("this tells of the dashboard's session; sign in at /"))?;
    let (scope, tenant_id) = match &grant.scope {
        Scope::Admin => ("admin", None),
        Scope::Tenant(tenant) => ("tenant", Some(tenant.to_string())),
    };
    Ok(json(&Session { scope, tenant_id, csrf_token, expires: rfc3339(grant.expires) }))
}

/// Takes the cookie back.
pub async fn sign_out(State(api): State<Api>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, &api, "", Duration::ZERO);
    response
}

fn set_cookie(response: &mut Response, api: &Api, value: &str, life: Duration) {
    let secure = if api.tls { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", life.as_secs());
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

/// The session's cookie, if exactly one was sent.
#[must_use]
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut ours = pairs
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    match (ours.next(), ours.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Whether a request with the cookie may do what it asks for.
///
/// # Errors
/// 403: it changes something, and does not show that it comes from the page.
pub fn guard(api: &Api, cookie: &str, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    same_origin(headers)?;
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let shown = headers.get(CSRF_HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
    let wanted = api.tokens.csrf(cookie).unwrap_or_default();
    match !wanted.is_empty() && bool::from(shown.ct_eq(wanted.as_bytes())) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "a request with the dashboard's cookie must show x-csrf-token; programs send Authorization: Bearer",
        )),
    }
}

/// Refuses what a browser says comes from another site.
fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "the dashboard is used from its own page alone",
        )),
    }
}
