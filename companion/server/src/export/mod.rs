//! The audit trail to others, as it grows: to a collector over OTLP (`EXPORT_OTLP_URL`), to NATS JetStream (`EXPORT_NATS_URL`); and the companion's
//! [`figures`].
//!
//! Each export has a cursor in the trail's folder: where it goes on, and up to where records may be removed from the trail,
//! because the other side keeps them for certain. So a segment goes only when every export has acknowledged it; an export
//! that is away holds what it has not got, and says so. After a crash records are sent again from the cursor on: every record
//! arrives at least once, and `metadata.uid` tells a repetition.
//!
//! What is sealed in the trail is not opened for others: it would outlive the tenant's key there. `EXPORT_PERSONAL` says whether it is
//! left out or goes along as ciphertext. What an old record tells of people in clear is left out. Limits: pages of
//! [`PAGE_BYTES`]; a record that a collector refuses by itself is passed over, counted and logged, if the collector took another one of
//! the same page: one that takes nothing is a wrong address or out of order, and passes nothing over. What was passed over stays in
//! the trail until retention removes it: holding it for good would let one record fill the disk.

pub mod figures;
pub mod ocsf;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use portcullis_audit_log::cursor::Cursor;
use portcullis_audit_log::feed::{Feed, Page};
use portcullis_export::nats::JetStream;
use portcullis_export::otlp::Otlp;
use portcullis_export::otlp::metrics::Pusher;
use portcullis_export::{AddressError, Collector, Delivered, DeliveryError, Record};
use portcullis_keyring::Envelope;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::metrics::Counter;
use crate::secret::random_hex;
use crate::trail::{Trail, record};

/// Bytes of records that are sent together.
const PAGE_BYTES: usize = 256 * 1024;
/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What exported records tell of people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Personal {
    /// Nothing.
    #[default]
    Omit,
    /// What the trail has: an envelope that the tenant's key opens.
    Ciphertext,
}

/// Where the trail is exported to; shows nothing of itself, because addresses and headers hold secrets.
#[derive(Clone, Default)]
pub struct Places {
    /// `EXPORT_OTLP_URL`.
    pub otlp_url: Option<String>,
    /// `EXPORT_OTLP_HEADERS`.
    pub otlp_headers: Vec<(String, String)>,
    /// `EXPORT_OTLP_METRICS_URL`, and how often.
    pub metrics: Option<(String, Duration)>,
    /// `EXPORT_NATS_URL`.
    pub nats_url: Option<String>,
    /// `EXPORT_NATS_STREAM`.
    pub nats_stream: String,
    /// `EXPORT_NATS_MONITOR_URL`.
    pub nats_monitor_url: Option<String>,
    /// `EXPORT_CA_FILE`.
    pub authorities: Option<PathBuf>,
    /// `EXPORT_PERSONAL`.
    pub personal: Personal,
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// An export, and who takes its records.
pub type Exporting = (Export, Box<dyn Collector>);

/// Why a place is none.
#[derive(Debug, thiserror::Error)]
#[error("{variables}: {source}")]
pub struct PlaceError {
    variables: &'static str,
    source: AddressError,
}

impl Places {
    /// An export and a collector for each place.
    ///
    /// # Errors
    /// [`PlaceError`] names the variable.
    pub fn collectors(&self) -> Result<Vec<Exporting>, PlaceError> {
        let mut all: Vec<Exporting> = Vec::new();
        if let Some(url) = &self.otlp_url {
            let variables = "EXPORT_OTLP_URL or EXPORT_OTLP_HEADERS";
            let otlp = Otlp::new(url, &self.otlp_headers, now_ns);
            let mut otlp = otlp.map_err(|source| PlaceError { variables, source })?;
            if let Some(file) = &self.authorities {
                otlp = otlp.trusting(file);
            }
            all.push((Export::new(OTLP, self.personal), Box::new(otlp)));
        }
        if let Some(url) = &self.nats_url {
            let variables = "EXPORT_NATS_URL, EXPORT_NATS_STREAM or EXPORT_NATS_MONITOR_URL";
            let nats = JetStream::new(url, &self.nats_stream, self.nats_monitor_url.as_deref());
            let mut nats = nats.map_err(|source| PlaceError { variables, source })?;
            if let Some(file) = &self.authorities {
                nats = nats.trusting(file);
            }
            all.push((Export::new(NATS, self.personal), Box::new(nats)));
        }
        Ok(all)
    }

    /// Who takes figures, and how often.
    ///
    /// # Errors
    /// [`PlaceError`] names the variable.
    pub fn pusher(&self) -> Result<Option<(Pusher, Duration)>, PlaceError> {
        let Some((url, interval)) = &self.metrics else { return Ok(None) };
        let variables = "EXPORT_OTLP_METRICS_URL or EXPORT_OTLP_HEADERS";
        let mut pusher =
            Pusher::new(url, &self.otlp_headers).map_err(|source| PlaceError { variables, source })?;
        if let Some(file) = &self.authorities {
            pusher = pusher.trusting(file);
        }
        Ok(Some((pusher, *interval)))
    }
}

/// Names of exports: of their cursors, and in metrics.
const OTLP: &str = "otlp";
const NATS: &str = "nats";

fn now_ns() -> u64 {
    u64::try_from(Clock::System.now().as_nanosecond()).unwrap_or_default()
}

/// Makes the cursors of those that export hold what is to be exported, from the start on, and those of others hold nothing.
///
/// # Errors
/// When the trail's folder cannot be read or written.
pub fn prepare(trail: &Trail, exports: &[Export]) -> std::io::Result<()> {
    let storage = trail.log().storage();
    let known = storage.list()?;
    for name in [OTLP, NATS] {
        let has = known.iter().any(|file| file.strip_prefix("cursor-") == Some(name));
        let cursor = Cursor::load(&**storage, name)?;
        let wanted = exports.iter().any(|export| export.name == name);
        let right = match (wanted, has) {
            // The trail was taken back: what it has now was sent before, or is new. Said now, because what is appended from here on
            // would hide it.
            (true, _) if cursor.next > trail.size() => {
                tracing::error!(
                    category = "security",
                    export = name,
                    records = trail.size(),
                    exported = cursor.next,
                    "the trail has fewer records than were exported; all that it has is exported again"
                );
                Cursor { next: 0, released: 0 }
            }
            // It goes on where it was switched off; what went meanwhile is gone.
            (true, _) => Cursor { released: cursor.released.min(cursor.next), ..cursor },
            (false, true) => Cursor { released: u64::MAX, ..cursor },
            (false, false) => continue,
        };
        if right != cursor || !has {
            right.store(&**storage, name)?;
        }
    }
    Ok(())
}

/// What an export has done.
#[derive(Default)]
pub struct Figures {
    exported: Counter,
    rejected: Counter,
    failures: Counter,
    position: std::sync::atomic::AtomicU64,
    released: std::sync::atomic::AtomicU64,
    away: AtomicBool,
    /// It was said that nothing is released.
    unconfirmed: AtomicBool,
}

/// An export and its figures.
#[derive(Clone)]
pub struct Export {
    /// The name of its cursor and its label.
    pub name: &'static str,
    /// What it has done.
    pub figures: Arc<Figures>,
    personal: Personal,
}

/// Why it does not go on.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("{0}")]
    Trail(String),
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

impl Export {
    /// Of that name, that tells of people what `personal` says.
    #[must_use]
    pub fn new(name: &'static str, personal: Personal) -> Self {
        Self { name, figures: Arc::default(), personal }
    }

    /// Sends what is durable, page by page, until `end` says true.
    pub async fn run(self, trail: Trail, mut collector: Box<dyn Collector>, mut end: watch::Receiver<bool>) {
        let mut durable = trail.durable();
        let mut pause = PAUSE;
        loop {
            durable.mark_unchanged();
            let step = tokio::select! {
                step = self.step(&trail, &mut *collector) => step,
                _ = end.wait_for(|end| *end) => return,
            };
            match step {
                Ok(true) => {
                    pause = PAUSE;
                    self.is_back();
                }
                Ok(false) => tokio::select! {
                    _ = durable.changed() => {}
                    _ = end.wait_for(|end| *end) => return,
                },
                Err(error) => {
                    self.failed(&error);
                    let told = match &error {
                        ExportError::Delivery(DeliveryError::Unavailable { retry_after, .. }) => *retry_after,
                        _ => None,
                    };
                    tokio::select! {
                        () = tokio::time::sleep(told.unwrap_or_else(|| jittered(pause))) => {}
                        _ = end.wait_for(|end| *end) => return,
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Sends the next page; false when there is none.
    async fn step(&self, trail: &Trail, collector: &mut dyn Collector) -> Result<bool, ExportError> {
        let (cursor, page) = read(trail, self.name).await?;
        self.figures.position.store(cursor.next, Ordering::Relaxed);
        self.figures.released.store(cursor.released, Ordering::Relaxed);
        if page.next == cursor.next {
            return Ok(false);
        }
        let records: Vec<Record> = page
            .records
            .iter()
            .filter_map(|stored| match record::decode(stored, None) {
                Ok(event) => {
                    let wanted = self.personal == Personal::Ciphertext && !stored.sealed.is_empty();
                    let sealed = wanted.then(|| Envelope::to_text(&stored.sealed));
                    Some(ocsf::record(record::without_people(event), stored.index, sealed))
                }
                Err(error) => {
                    // The trail's own records are none.
                    tracing::debug!(category = "audit", index = stored.index, %error, "a record is not exported");
                    None
                }
            })
            .collect();
        let kept = self.deliver(collector, &records).await?;
        if !kept && !self.figures.unconfirmed.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                category = "audit",
                export = self.name,
                "the server does not confirm that it syncs what it acknowledges: no segment of the trail is freed by this export; set \
                 sync_interval: always there, and EXPORT_NATS_MONITOR_URL here"
            );
        }
        let released = if kept { page.next } else { cursor.released };
        write(trail, self.name, Cursor { next: page.next, released }).await?;
        Ok(true)
    }

    /// Sends records; those that are refused are found by halves, and passed over once another one was taken.
    async fn deliver(&self, collector: &mut dyn Collector, records: &[Record]) -> Result<bool, ExportError> {
        let (mut kept, mut answers) = (true, false);
        let mut refused: Vec<(&[Record], String)> = Vec::new();
        let mut open = vec![records];
        while let Some(part) = open.pop() {
            if part.is_empty() {
                continue;
            }
            match collector.deliver(part).await {
                Ok(Delivered { rejected, kept: keeps }) => {
                    (kept, answers) = (kept && keeps, true);
                    let count = u64::try_from(part.len()).unwrap_or(u64::MAX);
                    self.figures.exported.add(count.saturating_sub(rejected));
                    self.reject(rejected, part, "the collector counts them as rejected");
                }
                Err(DeliveryError::Refused(reason)) if part.len() == 1 => refused.push((part, reason)),
                Err(DeliveryError::Refused(_)) => {
                    if part.len() == records.len() {
                        probe(collector).await?;
                    }
                    let (first, second) = part.split_at(part.len() / 2);
                    // The first half is sent first.
                    open.push(second);
                    open.push(first);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let (false, Some((_, reason))) = (answers, refused.first()) {
            return Err(takes_nothing(reason).into());
        }
        // Once more: it may have refused everything until a moment ago, and take it now.
        for (part, _) in refused {
            match collector.deliver(part).await {
                Ok(Delivered { rejected, kept: keeps }) => {
                    kept = kept && keeps;
                    self.figures.exported.add(1_u64.saturating_sub(rejected));
                    self.reject(rejected, part, "the collector counts them as rejected");
                }
                Err(DeliveryError::Refused(reason)) => self.reject(1, part, &reason),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(kept)
    }

    fn reject(&self, count: u64, part: &[Record], reason: &str) {
        if count > 0 {
            self.figures.rejected.add(count);
            let first = part.first().map(|record| record.uid.as_str());
            tracing::error!(
                category = "audit",
                export = self.name,
                count,
                first,
                reason,
                "records were refused by the collector and are passed over; they stay in the trail until retention removes them"
            );
        }
    }

    fn failed(&self, error: &ExportError) {
        self.figures.failures.add(1);
        if !self.figures.away.swap(true, Ordering::Relaxed) {
            tracing::error!(category = "audit", export = self.name, %error, "records are not exported; they wait in the trail");
        }
    }

    fn is_back(&self) {
        if self.figures.away.swap(false, Ordering::Relaxed) {
            tracing::info!(category = "audit", export = self.name, "records are exported again");
        }
    }
}

/// Asks whether the collector takes anything, before a page is taken apart: what receives OTLP answers a request without records
/// as one that it has taken.
async fn probe(collector: &mut dyn Collector) -> Result<(), DeliveryError> {
    match collector.deliver(&[]).await {
        Err(DeliveryError::Refused(reason)) => Err(takes_nothing(&reason)),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

fn takes_nothing(reason: &str) -> DeliveryError {
    let reason = format!("{reason} to whatever is sent: is this the address of its OTLP over HTTP?");
    DeliveryError::Unavailable { reason, retry_after: None }
}

/// Prometheus text; `size` is how many records the trail has.
#[must_use]
pub fn render(exports: &[Export], size: u64) -> String {
    let mut text = String::new();
    let of = |export: &Export| {
        let figures = &export.figures;
        let position = figures.position.load(Ordering::Relaxed);
        let released = figures.released.load(Ordering::Relaxed);
        [
            figures.exported.value(),
            figures.rejected.value(),
            figures.failures.value(),
            size.saturating_sub(position),
            size.saturating_sub(released),
        ]
    };
    let metrics = [
        ("exported_total", "counter", "Records that the collector has taken."),
        ("rejected_total", "counter", "Records that it refused; they were passed over."),
        ("failures_total", "counter", "Deliveries that failed and are repeated."),
        ("lag_records", "gauge", "Records of the trail that were not sent yet."),
        (
            "held_records",
            "gauge",
            "Records that retention may not remove, because the export does not keep them for certain.",
        ),
    ];
    for (number, (name, kind, help)) in metrics.into_iter().enumerate() {
        if exports.is_empty() {
            break;
        }
        text.push_str(&format!(
            "# HELP portcullis_export_{name} {help}\n# TYPE portcullis_export_{name} {kind}\n"
        ));
        for export in exports {
            let value = of(export).get(number).copied().unwrap_or(0);
            text.push_str(&format!("portcullis_export_{name}{{export=\"{}\"}} {value}\n", export.name));
        }
    }
    text
}

async fn read(trail: &Trail, name: &'static str) -> Result<(Cursor, Page), ExportError> {
    let trail = trail.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let storage = trail.log().storage();
        let size = trail.size();
        let cursor = Cursor::load(&**storage, name).map_err(|error| error.to_string())?;
        let mut feed = Feed::new(Arc::clone(storage), cursor.next);
        let page = feed.page(size, PAGE_BYTES).map_err(|error| error.to_string())?;
        Ok((cursor, page))
    });
    reading.await.map_err(|error| ExportError::Trail(error.to_string()))?.map_err(ExportError::Trail)
}

async fn write(trail: &Trail, name: &'static str, cursor: Cursor) -> Result<(), ExportError> {
    let trail = trail.clone();
    let writing = tokio::task::spawn_blocking(move || cursor.store(&**trail.log().storage(), name));
    let written = writing.await.map_err(|error| ExportError::Trail(error.to_string()))?;
    written.map_err(|error| ExportError::Trail(error.to_string()))
}

/// Half of it for certain, half by chance, so that companions do not come in step.
fn jittered(pause: Duration) -> Duration {
    let chance = random_hex::<1>().ok().and_then(|digits| u32::from_str_radix(&digits, 16).ok()).unwrap_or(0);
    pause / 2 + (pause / 2) * chance / 256
}
