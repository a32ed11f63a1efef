//! What keys cost: Envoy's memory while more and more users are limited.

use std::io::Write;

use anyhow::{Context as _, Result};

use super::{Behind, Envoy, Load, Options, Upstream, levels};

/// Memory after so many keys.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Memory {
    /// Users that were limited, each by one limit that stays in use.
    pub keys: usize,
    /// Resident memory of Envoy with one worker, in MiB.
    pub resident_mib: f64,
}

/// Sends a request of each of so many users, and looks ten times on the way.
///
/// # Errors
/// When Envoy does not start, or answers anything but 200.
pub fn run(options: &Options, keys: usize, progress: &mut dyn Write) -> Result<Vec<Memory>> {
    let upstream = Upstream::start()?;
    let variant = levels::daily(&options.dist)?;
    let behind = Behind { upstream: None, records: upstream.port(), service: upstream.port() };
    let envoy = Envoy::start(&options.envoy, &variant, &behind, None)?;
    let request = variant.requests.first().context("a variant without a request")?.clone();
    let text = String::from_utf8_lossy(&request).into_owned();
    let of = move |number: usize| {
        text.replacen("x-user-id: alice", &format!("x-user-id: user-{number}"), 1).into_bytes()
    };
    let mut load = Load::connect(envoy.port(), options.connections, Box::new(of))?;
    // Its compiler has done its best by then.
    let mut seen = vec![Memory { keys: 0, resident_mib: envoy.memory_mib()? }];
    let steps = [keys.min(5_000)].into_iter().chain((1..=10).map(|part| keys / 10 * part));
    let mut sent = 0;
    for until in steps.filter(|until| *until > 0) {
        load.run(until.saturating_sub(sent))?;
        sent = sent.max(until);
        seen.push(Memory { keys: sent, resident_mib: envoy.memory_mib()? });
        write!(progress, "\r{sent} of {keys} keys")?;
        progress.flush()?;
    }
    writeln!(progress)?;
    Ok(seen)
}

/// As a Markdown table.
pub fn table(seen: &[Memory]) -> String {
    let mut text = String::from("| keys in use | Envoy's resident memory, MiB |\n|---|---|\n");
    for Memory { keys, resident_mib } in seen {
        text.push_str(&format!("| {keys} | {resident_mib:.1} |\n"));
    }
    text
}
