//! The trail's counts, as Prometheus text.

use std::sync::Arc;

use portcullis_audit_log::segment;

use super::Trail;
use crate::metrics::{Counter, Histogram, header, labelled, put};

/// What is counted.
#[derive(Default)]
pub struct Figures {
    /// Time until a batch was durable.
    pub append_latency: Histogram,
    /// Time until the disk had made a file's bytes durable.
    pub sync_latency: Arc<Histogram>,
    /// Batches that found no room.
    pub refused_full: Counter,
    /// Batches that found no place in the queue.
    pub refused_busy: Counter,
    /// Batches whose tenants' keys were not to be had.
    pub refused_keys: Counter,
    /// Records of tenants without a key: what they told of people was not kept.
    pub unkept: Counter,
    /// Records whose sealed part could not be read, although nobody shredded its key.
    pub unreadable: Counter,
    /// Batches that failed otherwise.
    pub refused_failed: Counter,
    /// Records that no table can hold, or that no event is in.
    pub unprojectable: Counter,
    /// Times that the projection had to wait for the store.
    pub stalls: Counter,
}

impl Trail {
    /// The Prometheus text; lists the folder.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(4096);
        let out = &mut text;
        let mut gauge = |name: &str, help: &str, value: u64| {
            header(out, name, "gauge", help);
            put(out, format_args!("{name} {value}"));
        };
        let (size, projected) = (self.size(), self.projected());
        // A folder that cannot be read shows as no segments, and appending to it as refusals.
        let places = segment::places(&**self.log().storage()).unwrap_or_default();
        let segments = places.iter().filter(|place| !place.gone).count();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        gauge("portcullis_trail_records", "Records of the audit trail.", size);
        gauge("portcullis_trail_projected_records", "Records that the tables show.", projected);
        gauge(
            "portcullis_trail_lag_records",
            "Records that the tables do not show yet.",
            size.saturating_sub(projected),
        );
        gauge("portcullis_trail_bytes", "Size of the trail's files.", self.bytes());
        gauge("portcullis_trail_segments", "Segments that hold records.", count(segments));
        gauge(
            "portcullis_trail_waiting_bytes",
            "Bytes that wait for the disk.",
            count(self.log().waiting_bytes()),
        );
        gauge(
            "portcullis_trail_stalled",
            "1 while the store does not take what the trail has.",
            u64::from(self.is_stalled()),
        );
        let figures = self.figures();
        labelled(
            out,
            "portcullis_trail_refused_batches_total",
            "Batches that the trail did not take, by reason.",
            "reason",
            &["full", "busy", "keys", "failed"],
            &[&figures.refused_full, &figures.refused_busy, &figures.refused_keys, &figures.refused_failed],
        );
        for (name, help, counter) in [
            (
                "portcullis_trail_unprojectable_total",
                "Records that no table shows: unreadable, or refused by its types.",
                &figures.unprojectable,
            ),
            (
                "portcullis_trail_unkept_total",
                "Records of tenants without a key: what they told of people was not kept.",
                &figures.unkept,
            ),
            (
                "portcullis_trail_unreadable_total",
                "Records whose sealed part could not be read, although nobody shredded its key.",
                &figures.unreadable,
            ),
            (
                "portcullis_trail_stalls_total",
                "Times that the projection failed and waited.",
                &figures.stalls,
            ),
        ] {
            header(out, name, "counter", help);
            put(out, format_args!("{name} {}", counter.value()));
        }
        figures.append_latency.render(
            out,
            "portcullis_trail_append_seconds",
            "Time until a batch was durable.",
        );
        figures.sync_latency.render(
            out,
            "portcullis_trail_sync_seconds",
            "Time that the disk took to make a file's bytes durable (fdatasync).",
        );
        text
    }
}
