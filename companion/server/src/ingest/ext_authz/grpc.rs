//! `envoy.service.auth.v3.Authorization/Check`: the same answers over gRPC, on the same listener (HTTP/2 without TLS needs
//! `http2_protocol_options` of Envoy's cluster).
//!
//! Names are written over what the client sent (`OVERWRITE_IF_EXISTS_OR_ADD`), and stand in the dynamic metadata of
//! `envoy.filters.http.ext_authz` too, which is the mark that the module wants of a header `set_by: ext_authz`. Limits:
//! 1 MiB a message; Envoy sends no body unless it is told to.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use portcullis_policy::CorrelationId;
use tonic::server::{Grpc, UnaryService};

use super::messages::{
    Allowed, Append, CheckRequest, CheckResponse, Denied, HeaderOption, HeaderValue as Header, HttpResponse,
    HttpStatus, Status, Struct, Value,
};
use super::{Ingest, Refused, judge, names};
use crate::http::problem::Problem;

/// The method's path.
pub const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";
const MESSAGE_BYTES: usize = 1024 * 1024;
/// `google.rpc.Code.UNAUTHENTICATED`.
const UNAUTHENTICATED: i32 = 16;

/// Answers for one request of a client.
pub async fn check(State(ingest): State<Ingest>, request: HttpRequest) -> Response {
    let codec = tonic_prost::ProstCodec::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES);
    grpc.unary(Method(ingest), request).await.map(Body::new)
}

struct Method(Ingest);

impl UnaryService<CheckRequest> for Method {
    type Response = CheckResponse;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<CheckResponse>, tonic::Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let ingest = self.0.clone();
        Box::pin(async move {
            let http = request.into_inner().attributes.and_then(|attributes| attributes.request);
            let headers = head(http.and_then(|request| request.http).unwrap_or_default());
            match judge(&ingest, &headers).await {
                Ok(session) => Ok(tonic::Response::new(allowed(names(&session)))),
                Err(Refused::NoSession(problem)) => Ok(tonic::Response::new(denied(problem, &headers).await)),
                // Envoy does then what `failure_mode_allow` says.
                Err(Refused::Away(problem)) => Err(tonic::Status::unavailable(problem.detail)),
            }
        })
    }
}

/// The client's headers, as far as they are well formed; what is not cannot be a token.
fn head(request: super::messages::HttpRequest) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: &str, value: &[u8]| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    };
    for (name, value) in &request.headers {
        put(name, value.as_bytes());
    }
    for header in request.header_map.unwrap_or_default().headers {
        let raw = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
        put(&header.key, raw);
    }
    headers
}

fn allowed(names: [(&'static str, String); 3]) -> CheckResponse {
    let fields: HashMap<String, Value> = names
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value { string: Some(value.clone()) }))
        .collect();
    let headers = names.into_iter().map(|(name, value)| option(name, value)).collect();
    CheckResponse {
        status: Some(Status { code: 0 }),
        http_response: Some(HttpResponse::Ok(Allowed { headers })),
        dynamic_metadata: Some(Struct { fields }),
    }
}

async fn denied(problem: Problem, headers: &HeaderMap) -> CheckResponse {
    let sent = headers.get("x-request-id").and_then(|id| CorrelationId::accept(id.as_bytes()));
    let status = problem.status.as_u16().into();
    let answer = problem.render(&sent.unwrap_or_else(|| CorrelationId::make([0, 0])));
    let (parts, body) = answer.into_parts();
    let headers =
        parts.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let headers = headers.map(|(name, value)| option(name, value.to_owned())).collect();
    let body = axum::body::to_bytes(body, MESSAGE_BYTES).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    CheckResponse {
        status: Some(Status { code: UNAUTHENTICATED }),
        http_response: Some(HttpResponse::Denied(Denied {
            status: Some(HttpStatus { code: status }),
            headers,
            body,
        })),
        dynamic_metadata: None,
    }
}

fn option(name: &str, value: String) -> HeaderOption {
    let header = Header { key: name.to_owned(), value, raw_value: Vec::new() };
    HeaderOption { header: Some(header), append_action: Append::OverwriteIfExistsOrAdd.into() }
}
