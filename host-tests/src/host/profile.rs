//! What a host offers. Modules must decide on all of them.

use super::status::Status;

/// A kind of host.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    missing: &'static [&'static [&'static str]],
    denied: &'static [&'static str],
    forbidden: &'static [&'static str],
    string_properties: bool,
    zero_creates: bool,
    ignores_pause: bool,
}

/// What edges that are made for short, stateless work have not: timers, metrics, shared data, queues, calls to others.
const SERVICES: &[&str] = &[
    "proxy_set_tick_period_milliseconds",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
    "proxy_get_metric",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_register_shared_queue",
    "proxy_resolve_shared_queue",
    "proxy_enqueue_shared_queue",
    "proxy_dequeue_shared_queue",
    "proxy_http_call",
    "proxy_grpc_call",
    "proxy_grpc_stream",
    "proxy_grpc_send",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_call_foreign_function",
];

/// What even those have, and a host need not have.
const KNOWLEDGE: &[&str] = &["proxy_get_property", "proxy_set_property", "proxy_get_log_level"];

impl Profile {
    /// Everything that Envoy offers, except gRPC.
    #[must_use]
    pub fn envoy() -> Self {
        Self::default()
    }

    /// Answers Unimplemented to everything optional: ticks, metrics, shared data, queues, calls to others, properties.
    #[must_use]
    pub fn restricted() -> Self {
        Self { missing: &[SERVICES, KNOWLEDGE], ..Self::default() }
    }

    /// A CDN's edge: timers, metrics, shared data, queues and calls are forbidden, and `Pause` counts for nothing.
    #[must_use]
    pub fn edge() -> Self {
        Self { forbidden: SERVICES, ignores_pause: true, ..Self::default() }
    }

    /// `ngx_wasm_module`: properties are strings, numbers included; version 0 of shared data means "must not exist", and
    /// any other that it exists.
    #[must_use]
    pub fn nginx() -> Self {
        Self { string_properties: true, zero_creates: true, ..Self::default() }
    }

    /// Envoy whose capability restrictions deny these calls: they answer InternalFailure.
    #[must_use]
    pub fn denying(calls: &'static [&'static str]) -> Self {
        Self { denied: calls, ..Self::default() }
    }

    pub(crate) fn refuses(&self, call: &str) -> Option<Status> {
        if self.missing.iter().any(|calls| calls.contains(&call)) {
            return Some(Status::Unimplemented);
        }
        self.denied.contains(&call).then_some(Status::InternalFailure)
    }

    pub(crate) fn forbids(&self, call: &str) -> bool {
        self.forbidden.contains(&call)
    }

    pub(crate) fn zero_creates(&self) -> bool {
        self.zero_creates
    }

    pub(crate) fn string_properties(&self) -> bool {
        self.string_properties
    }

    pub(crate) fn ignores_pause(&self) -> bool {
        self.ignores_pause
    }
}
