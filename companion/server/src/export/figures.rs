//! The companion's figures to a collector over OTLP (`EXPORT_OTLP_METRICS_URL`): what `/metrics` tells, pushed.
//!
//! A push that a collector does not take is tried again with a pause that doubles up to the interval, or as the collector says, with the figures of
//! that moment: counters are cumulative, so that nothing is lost and nothing has to be kept. Failures are counted, and told in the log once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_export::DeliveryError;
use portcullis_export::otlp::metrics::{Pushed, Pusher, Span};
use tokio::sync::watch;

use super::{PAUSE, jittered, now_ns};
use crate::metrics::{Counter, header, labelled, put};

/// How long the last push, at the end, may take.
const LAST: Duration = Duration::from_secs(2);

/// What was pushed.
#[derive(Default)]
pub struct Pushes {
    taken: Counter,
    failed: Counter,
    rejected: Counter,
    left_out: Counter,
    away: AtomicBool,
}

impl Pushes {
    /// Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let pushes = [&self.taken, &self.failed];
        let help = "Pushes of figures over OTLP, by result.";
        labelled(&mut text, "portcullis_export_pushes_total", help, "result", &["taken", "failed"], &pushes);
        for (name, help, counter) in [
            (
                "portcullis_export_push_points_rejected_total",
                "Points that the collector will not take.",
                &self.rejected,
            ),
            (
                "portcullis_export_push_points_left_out_total",
                "Points that were too many for a push.",
                &self.left_out,
            ),
        ] {
            header(&mut text, name, "counter", help);
            put(&mut text, format_args!("{name} {}", counter.value()));
        }
        text
    }

    /// Pushes what `figures` tells every `interval`, until `end` says true, and once more then.
    pub async fn run<F: Future<Output = String>>(
        self: Arc<Self>,
        mut pusher: Pusher,
        interval: Duration,
        figures: impl Fn() -> F,
        mut end: watch::Receiver<bool>,
    ) {
        let start = now_ns();
        let mut pause = PAUSE.min(interval);
        let mut wait = interval;
        loop {
            let due = async {
                tokio::time::sleep(wait).await;
                self.push(&mut pusher, start, figures().await).await
            };
            let pushed = tokio::select! {
                pushed = due => pushed,
                _ = end.wait_for(|end| *end) => break,
            };
            wait = match pushed {
                Ok(()) => {
                    pause = PAUSE.min(interval);
                    interval
                }
                Err(retry_after) => {
                    let now = pause;
                    pause = (pause * 2).min(interval);
                    retry_after.unwrap_or_else(|| jittered(now))
                }
            };
        }
        let last = async { self.push(&mut pusher, start, figures().await).await };
        // In vain is no error: it was counted.
        let _ = tokio::time::timeout(LAST, last).await;
    }

    /// Pushes once; tells when the collector wants to be asked again, if it did not take it and says so.
    async fn push(&self, pusher: &mut Pusher, start: u64, text: String) -> Result<(), Option<Duration>> {
        match pusher.push(&text, Span { start, now: now_ns() }).await {
            Ok(Pushed { rejected, left_out, .. }) => {
                self.taken.add(1);
                self.rejected.add(rejected);
                self.left_out.add(left_out);
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!(category = "application", "the collector takes figures again");
                }
                Ok(())
            }
            Err(error) => {
                self.failed.add(1);
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::error!(category = "application", %error, "the collector does not take figures; they are told again");
                }
                match error {
                    DeliveryError::Unavailable { retry_after, .. } => Err(retry_after),
                    DeliveryError::Refused(_) => Err(None),
                }
            }
        }
    }
}
