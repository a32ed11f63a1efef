//! OTLP over HTTP, logs, in protobuf: `POST /v1/logs`, as the OpenTelemetry Collector and what speaks its protocol take it.
//!
//! The body of a record is the OCSF event; attributes repeat what collectors sort by. An answer of 2xx means that the
//! collector has the records; those that it counts as rejected it will never take. 429, 502, 503, 504 and no answer at all
//! are to be tried again (OTLP 1.x, "Failures"), and so are 401, 403, 404 and 5xx, because an operator mends those; any other
//! status refuses these records.

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
const PATH: &str = "/v1/logs";
const MEDIA_TYPE: &str = "application/x-protobuf";

/// A collector.
pub struct Otlp {
    client: Client,
    path: String,
    clock: fn() -> u64,
}

impl Otlp {
    /// At `http(s)://HOST[:4318][/PATH]`, with headers such as an API key's; `clock` tells nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// The address or a header cannot be.
    pub fn new(url: &str, headers: &[(String, String)], clock: fn() -> u64) -> Result<Self, AddressError> {
        let client = Client::new(url, PORT, headers)?;
        let path = match client.address().path.trim_end_matches('/') {
            "" => PATH.to_owned(),
            path if path.ends_with(PATH) => path.to_owned(),
            path => format!("{path}{PATH}"),
        };
        Ok(Self { client, path, clock })
    }

    /// The same, with a file of certificates in PEM that the collector's own must go back to, in place of the system's.
    #[must_use]
    pub fn trusting(mut self, authorities: &Path) -> Self {
        self.client = self.client.trusting(authorities);
        self
    }

    async fn post(&mut self, records: &[Record]) -> Result<Delivered, DeliveryError> {
        let body = Bytes::from(request(records, (self.clock)()).encode_to_vec());
        let sent = self.client.send(Method::POST, &self.path, MEDIA_TYPE, body).await;
        let answer = sent.map_err(DeliveryError::unavailable)?;
        match answer.status {
            200..=299 => {
                // A body that is none says nothing about rejections.
                let partial =
                    ExportResponse::decode(answer.body).ok().and_then(|answer| answer.partial_success);
                let rejected =
                    partial.map_or(0, |partial| u64::try_from(partial.rejected_log_records).unwrap_or(0));
                Ok(Delivered {
                    rejected: rejected.min(u64::try_from(records.len()).unwrap_or(u64::MAX)),
                    kept: true,
                })
            }
            status @ (401 | 403 | 404 | 408 | 429 | 500..=599) => Err(DeliveryError::Unavailable {
                reason: format!("the collector answers {status}"),
                retry_after: answer.retry_after,
            }),
            status => Err(DeliveryError::Refused(format!("the collector answers {status}"))),
        }
    }
}

impl Collector for Otlp {
    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> Delivering<'a> {
        Box::pin(self.post(records))
    }
}

fn request(records: &[Record], now_ns: u64) -> ExportRequest {
    let attribute = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: Some(value.into()) };
    let resource = Resource {
        attributes: vec![
            attribute("service.name", "portcullis"),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ],
    };
    let scope = Scope { name: "portcullis.audit".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let log_records = records.iter().map(|record| log_record(record, now_ns)).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records }];
    ExportRequest { resource_logs: vec![ResourceLogs { resource: Some(resource), scope_logs }] }
}

fn log_record(record: &Record, now_ns: u64) -> LogRecord {
    let (severity_number, severity_text) = match record.severity {
        Severity::Info => (9, "INFO"),
        Severity::Warning => (13, "WARN"),
        Severity::Error => (17, "ERROR"),
    };
    let text = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: Some(value.into()) };
    let mut attributes = vec![
        text("event.name", &record.event_type),
        text("log.record.uid", &record.uid),
        text("portcullis.tenant", &record.tenant),
    ];
    if let Some(id) = &record.correlation_id {
        attributes.push(text("portcullis.correlation_id", id));
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
