//! OTLP over HTTP, in protobuf, as the OpenTelemetry Collector and what speaks its protocol take it: logs (`POST /v1/logs`), and figures
//! ([`metrics`]).
//!
//! The body of a record is the OCSF event; attributes repeat what collectors sort by. An answer of 2xx means that the
//! collector has the records; those that it counts as rejected it will never take. 400, 413 and 422 refuse these records as they
//! are (OTLP 1.x, "Bad Data"). No answer at all and every other status is to be tried again: 429, 502, 503 and 504 because the
//! specification says so, the rest (redirects, 401, 404, 405, 415, ...) because it tells of the address or of what stands before
//! the collector, which an operator mends. A redirect is not followed: it would take the records and their headers elsewhere.

mod exposition;
pub mod metrics;

use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use prost::Message;

use crate::http::Client;
use crate::proto::{
    AnyValue, ExportRequest, ExportResponse, KeyValue, LogRecord, Resource, ResourceLogs, Scope, ScopeLogs,
};
use crate::{AddressError, Collector, Delivered, Delivering, DeliveryError, Record, Severity};

/// The port of OTLP over HTTP.
const PORT: u16 = 4318;
const LOGS: &str = "/v1/logs";
const MEDIA_TYPE: &str = "application/x-protobuf";

/// Where signals of one kind go.
struct Endpoint {
    client: Client,
    path: String,
}

impl Endpoint {
    /// At `http(s)://HOST[:4318][/PATH]`; `kind` ends the path.
    fn new(url: &str, headers: &[(String, String)], kind: &str) -> Result<Self, AddressError> {
        let client = Client::new(url, PORT, headers)?;
        let path = match client.address().path.trim_end_matches('/') {
            "" => kind.to_owned(),
            path if path.ends_with(kind) => path.to_owned(),
            path => format!("{path}{kind}"),
        };
        Ok(Self { client, path })
    }

    fn trusting(mut self, authorities: &Path) -> Self {
        self.client = self.client.trusting(authorities);
        self
    }

    /// Sends, and tells how many of the `count` signals the collector will never take.
    async fn post(&mut self, request: &impl Message, count: usize) -> Result<u64, DeliveryError> {
        let body = Bytes::from(request.encode_to_vec());
        let sent = self.client.send(Method::POST, &self.path, MEDIA_TYPE, body).await;
        let answer = sent.map_err(DeliveryError::unavailable)?;
        match answer.status {
            200..=299 => {
                // A body that is none says nothing about rejections.
                let partial =
                    ExportResponse::decode(answer.body).ok().and_then(|answer| answer.partial_success);
                let rejected = partial.map_or(0, |partial| u64::try_from(partial.rejected).unwrap_or(0));
                Ok(rejected.min(u64::try_from(count).unwrap_or(u64::MAX)))
            }
            status @ (400 | 413 | 422) => {
                Err(DeliveryError::Refused(format!("the collector answers {status}")))
            }
            status @ (408 | 429 | 500..=599) => Err(DeliveryError::Unavailable {
                reason: format!("the collector answers {status}"),
                retry_after: answer.retry_after,
            }),
            status => Err(DeliveryError::Unavailable {
                reason: format!("the collector answers {status}: is this the address of its OTLP over HTTP?"),
                retry_after: answer.retry_after,
            }),
        }
    }
}

/// A collector of logs.
pub struct Otlp {
    endpoint: Endpoint,
    clock: fn() -> u64,
}

impl Otlp {
    /// At `http(s)://HOST[:4318][/PATH]`, with headers such as an API key's; `clock` tells nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// The address or a header cannot be.
    pub fn new(url: &str, headers: &[(String, String)], clock: fn() -> u64) -> Result<Self, AddressError> {
        Ok(Self { endpoint: Endpoint::new(url, headers, LOGS)?, clock })
    }

    /// The same, with a file of certificates in PEM that the collector's own must go back to, in place of the system's.
    #[must_use]
    pub fn trusting(mut self, authorities: &Path) -> Self {
        self.endpoint = self.endpoint.trusting(authorities);
        self
    }

    async fn post(&mut self, records: &[Record]) -> Result<Delivered, DeliveryError> {
        let request = request(records, (self.clock)());
        Ok(Delivered { rejected: self.endpoint.post(&request, records.len()).await?, kept: true })
    }
}

impl Collector for Otlp {
    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> Delivering<'a> {
        Box::pin(self.post(records))
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value.into()) }
}

fn resource() -> Resource {
    let version = attribute("service.version", env!("CARGO_PKG_VERSION"));
    Resource { attributes: vec![attribute("service.name", "portcullis"), version] }
}

fn scope(name: &str) -> Scope {
    Scope { name: name.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn request(records: &[Record], now_ns: u64) -> ExportRequest {
    let log_records = records.iter().map(|record| log_record(record, now_ns)).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope("portcullis.audit")), log_records }];
    ExportRequest { resource_logs: vec![ResourceLogs { resource: Some(resource()), scope_logs }] }
}

fn log_record(record: &Record, now_ns: u64) -> LogRecord {
    let (severity_number, severity_text) = match record.severity {
        Severity::Info => (9, "INFO"),
        Severity::Warning => (13, "WARN"),
        Severity::Error => (17, "ERROR"),
    };
    let mut attributes = vec![
        attribute("event.name", &record.event_type),
        attribute("log.record.uid", &record.uid),
        attribute("portcullis.tenant", &record.tenant),
    ];
    if let Some(id) = &record.correlation_id {
        attributes.push(attribute("portcullis.correlation_id", id));
    }
    let index = AnyValue::from(&serde_json::Value::from(record.index));
    attributes.push(KeyValue { key: "portcullis.index".to_owned(), value: Some(index) });
    LogRecord {
        time_unix_nano: record.time_ms.saturating_mul(1_000_000),
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue::from(&record.body)),
        attributes,
        observed_time_unix_nano: now_ns,
    }
}
