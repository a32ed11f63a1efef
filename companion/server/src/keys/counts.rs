//! Counters of sealing and opening, as Prometheus text. No tenant is a label.

use std::fmt::Write;

use portcullis_keyring::{Error, ServiceError};

use super::KeysError;
use crate::metrics::Counter;

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To seal.
    Seal,
    /// To open.
    Open,
}

/// By call, what came of it.
#[derive(Default)]
struct Results {
    done: Counter,
    refused: Counter,
    failed: Counter,
}

/// What was asked of the root key, or of the service that keeps it.
#[derive(Default)]
pub struct RootCalls {
    wrap: Results,
    unwrap: Results,
}

/// What the root key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootCall {
    /// To wrap a tenant's key.
    Wrap,
    /// To unwrap one.
    Unwrap,
}

impl RootCalls {
    /// Counts a call, and hands its result on.
    pub fn count<T>(&self, call: RootCall, result: Result<T, ServiceError>) -> Result<T, ServiceError> {
        let results = match call {
            RootCall::Wrap => &self.wrap,
            RootCall::Unwrap => &self.unwrap,
        };
        let counter = match &result {
            Ok(_) => &results.done,
            Err(ServiceError::Refused | ServiceError::OtherRoot(_)) => &results.refused,
            Err(ServiceError::Denied(_) | ServiceError::Unavailable(_)) => &results.failed,
        };
        counter.add(1);
        result
    }
}

/// All counters of keys.
#[derive(Default)]
pub struct Counts {
    seal: Results,
    open: Results,
    /// Keys rotated on schedule.
    pub rotations: Counter,
    /// Keys that were due and could not be rotated.
    pub rotation_errors: Counter,
    /// Versions that nothing needed any more, deleted.
    pub trimmed: Counter,
    /// Tenants whose old versions could not be looked at or deleted.
    pub trim_errors: Counter,
    /// Tenants whose keys were deleted.
    pub shreddings: Counter,
}

impl Counts {
    /// Counts a call, and hands its result on. What the caller's bytes are to blame for is refused, the rest has failed.
    pub fn count<T>(&self, call: Call, result: Result<T, KeysError>) -> Result<T, KeysError> {
        let results = match call {
            Call::Seal => &self.seal,
            Call::Open => &self.open,
        };
        let counter = match &result {
            Ok(_) => &results.done,
            Err(KeysError::Keyring(error)) if !is_failure(error) => &results.refused,
            Err(_) => &results.failed,
        };
        counter.add(1);
        result
    }

    /// The Prometheus text.
    #[must_use]
    pub fn render(&self, cached: usize, root: &RootCalls) -> String {
        let mut text = String::with_capacity(2048);
        for (name, help, calls) in [
            (
                "portcullis_keys_calls_total",
                "Values sealed and opened, by result.",
                [("seal", &self.seal), ("open", &self.open)],
            ),
            (
                "portcullis_keys_root_calls_total",
                "Tenants' keys wrapped and unwrapped by the root key, by result.",
                [("wrap", &root.wrap), ("unwrap", &root.unwrap)],
            ),
        ] {
            put(&mut text, format_args!("# HELP {name} {help}\n# TYPE {name} counter"));
            for (call, results) in calls {
                for (result, counter) in
                    [("done", &results.done), ("refused", &results.refused), ("failed", &results.failed)]
                {
                    let value = counter.value();
                    put(&mut text, format_args!("{name}{{call=\"{call}\",result=\"{result}\"}} {value}"));
                }
            }
        }
        for (name, help, counter) in [
            ("portcullis_keys_rotations_total", "Keys rotated on schedule.", &self.rotations),
            (
                "portcullis_keys_rotation_errors_total",
                "Keys that were due and not rotated.",
                &self.rotation_errors,
            ),
            ("portcullis_keys_trimmed_total", "Old versions of keys that were deleted.", &self.trimmed),
            (
                "portcullis_keys_trim_errors_total",
                "Tenants whose old versions were not looked at or deleted.",
                &self.trim_errors,
            ),
            ("portcullis_keys_shreddings_total", "Tenants whose keys were deleted.", &self.shreddings),
        ] {
            let value = counter.value();
            put(&mut text, format_args!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}"));
        }
        let name = "portcullis_keys_cached";
        put(
            &mut text,
            format_args!("# HELP {name} Unwrapped keys in memory.\n# TYPE {name} gauge\n{name} {cached}"),
        );
        text
    }
}

/// Whether something of ours is to blame.
#[must_use]
pub fn is_failure(error: &Error) -> bool {
    matches!(error, Error::Random | Error::Store(_) | Error::Service(_) | Error::Primitive | Error::Busy(_))
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = out.write_fmt(line);
    out.push('\n');
}
