//! Alerts by webhook: the companion looks at its own figures, and tells whom it was told to tell.
//!
//! It is for who has no Prometheus; the rules are much the same as those of `companion/monitoring/alerts.yaml`. A figure above its threshold
//! becomes an incident ([`incident`]), each webhook is told once that it fires and once that it is over ([`board`]), by signed messages to
//! places that may be connected to ([`webhook`]).
//!
//! Against: an alert that is lost in an outage of its receiver, or by a restart; one that is told again and again; an address that
//! leads into the network around the companion. Not against: a companion that is gone: something else must look after that (Prometheus' `up`,
//! `/monitoring/liveness`). Several companions each tell of what they see themselves.
//! Limits: [`board::MOST`] incidents at once, [`config::MOST`] webhooks, a message in 10 seconds, tries with a pause that doubles up to
//! [`LONGEST`].

pub mod board;
pub mod config;
mod figures;
pub mod incident;
pub mod reading;
pub mod rule;
mod sources;
pub mod webhook;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;

use crate::clock::{Clock, Timestamp, monotonic};
use crate::metrics::Counter;
use crate::secret::{random_hex, replace_file};
use board::{Board, Incident, Kept, Status};
use config::{Config, ConfigError, File, Webhook};
use reading::Window;
pub use sources::Sources;
use webhook::{Guard, Undelivered};

/// The longest pause between two tries.
pub const LONGEST: Duration = Duration::from_secs(300);

/// What an operator says of alerts.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file of webhooks and thresholds.
    pub file: PathBuf,
    /// Where incidents are kept.
    pub kept: PathBuf,
    /// ALERT_WEBHOOK_URL: one more webhook, named `environment`, that the API does not change.
    pub environment: Option<Webhook>,
    /// What may be connected to.
    pub guard: Guard,
    /// How often figures are looked at.
    pub interval: Duration,
    /// What is counted together.
    pub window: Duration,
    /// The first pause after a message that was not taken.
    pub retry: Duration,
}

/// The name of the webhook of the environment.
pub const ENVIRONMENT: &str = "environment";

/// How a webhook fares.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// Messages that it took.
    pub delivered: u64,
    /// Tries that failed.
    pub failed: u64,
    /// When it took one last.
    pub last: Option<Timestamp>,
    /// Why the last try failed; none when it did not.
    pub problem: Option<String>,
}

struct Inner {
    options: Options,
    clock: Clock,
    config: Mutex<Config>,
    /// Held by who changes the file.
    changing: AsyncMutex<()>,
    board: Mutex<Board>,
    deliveries: Mutex<BTreeMap<String, Delivery>>,
    delivered: Counter,
    failed: Counter,
    /// Grows whenever there may be something to tell, or other webhooks.
    changed: watch::Sender<u64>,
}

/// The alerts. Cheap to clone.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Alerts {
    /// Reads the configuration and what was kept. What looks and tells is [`Alerts::run`].
    ///
    /// # Errors
    /// The configuration is none. What was kept and cannot be read is forgotten, and told of in the log.
    pub fn new(options: Options, clock: Clock) -> Result<Self, ConfigError> {
        let config = File(options.file.clone()).load()?;
        let kept: Kept = match std::fs::read(&options.kept) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(category = "application", %error, "what was kept of alerts cannot be read");
                Kept::default()
            }),
            Err(_) => Kept::default(),
        };
        let alerts = Self(Arc::new(Inner {
            options,
            clock,
            config: Mutex::new(config),
            changing: AsyncMutex::default(),
            board: Mutex::new(Board::from_kept(kept)),
            deliveries: Mutex::default(),
            delivered: Counter::default(),
            failed: Counter::default(),
            changed: watch::Sender::default(),
        }));
        locked(&alerts.0.board).listeners(alerts.webhooks().keys());
        Ok(alerts)
    }

    /// What is configured in the file.
    #[must_use]
    pub fn config(&self) -> Config {
        locked(&self.0.config).clone()
    }

    /// All webhooks, that of the environment included.
    #[must_use]
    pub fn webhooks(&self) -> BTreeMap<String, Webhook> {
        let mut all = self.config().webhooks;
        if let Some(own) = &self.0.options.environment {
            all.insert(ENVIRONMENT.to_owned(), own.clone());
        }
        all
    }

    /// Changes what is configured, in the file and at once.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub async fn change<T>(&self, change: impl FnOnce(&mut Config) -> T) -> Result<T, ConfigError> {
        let _alone = self.0.changing.lock().await;
        let mut config = self.config();
        let answer = change(&mut config);
        let file = File(self.0.options.file.clone());
        let stored = config.clone();
        tokio::task::spawn_blocking(move || file.store(&stored)).await.unwrap_or(Ok(()))?;
        *locked(&self.0.config) = config;
        locked(&self.0.board).listeners(self.webhooks().keys());
        self.0.changed.send_modify(|version| *version = version.wrapping_add(1));
        Ok(answer)
    }

    /// All incidents: those that go on first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        locked(&self.0.board).all()
    }

    /// How a webhook fares, and how much it has not been told.
    #[must_use]
    pub fn delivery(&self, webhook: &str) -> (Delivery, usize) {
        let delivery = locked(&self.0.deliveries).get(webhook).cloned().unwrap_or_default();
        (delivery, locked(&self.0.board).untold(webhook).len())
    }

    /// Sends a message that says nothing, now.
    ///
    /// # Errors
    /// It was not taken.
    pub async fn try_out(&self, webhook: &Webhook) -> Result<(), Undelivered> {
        let body = serde_json::json!({"type": "alert.test", "timestamp": crate::clock::rfc3339(self.0.clock.now()),
            "data": {"summary": "A test by an administrator; nothing has happened."}});
        let id = random_hex::<8>()
            .map_err(|error| Undelivered { reason: error.to_string(), retry_after: None })?;
        self.send(webhook, &format!("msg_{id}_test"), &body).await
    }

    async fn send(&self, webhook: &Webhook, id: &str, body: &serde_json::Value) -> Result<(), Undelivered> {
        let seconds = self.0.clock.now().as_second();
        self.0.options.guard.deliver(webhook, id, seconds, body.to_string().into_bytes()).await
    }

    /// Looks and tells, until `end` says true.
    pub async fn run(self, sources: Sources, mut end: watch::Receiver<bool>) {
        let started = monotonic();
        let mut window = Window::new(self.0.options.window);
        let mut telling: HashMap<String, (Webhook, JoinHandle<()>)> = HashMap::new();
        let mut changed = self.0.changed.subscribe();
        let mut next = started;
        loop {
            self.follow(&mut telling);
            let due = tokio::select! {
                () = tokio::time::sleep(next.saturating_duration_since(monotonic())) => true,
                _ = changed.changed() => false,
                _ = end.wait_for(|end| *end) => break,
            };
            if due {
                self.look(&sources, &mut window, started).await;
                next = monotonic() + self.0.options.interval;
            }
        }
        for (_, task) in telling.into_values() {
            task.abort();
        }
        self.keep().await;
    }

    async fn look(&self, sources: &Sources, window: &mut Window, started: Instant) {
        let now = started.elapsed();
        let mut figures = window.look(now, sources.counters());
        figures.extend(sources.present());
        let news = {
            let config = self.config();
            let mut board = locked(&self.0.board);
            board.look(&figures, &config, now, self.0.clock.now(), || webhook::fresh_id().ok())
        };
        for incident in &news {
            let (tenant, value) = (incident.tenant.as_deref(), incident.value);
            match incident.status {
                Status::Firing => tracing::warn!(
                    category = "performance",
                    rule = incident.rule,
                    tenant,
                    value,
                    threshold = incident.threshold,
                    alert_id = incident.id,
                    "an alert fires"
                ),
                _ => tracing::info!(
                    category = "performance",
                    rule = incident.rule,
                    tenant,
                    alert_id = incident.id,
                    "an alert is over"
                ),
            }
        }
        if !news.is_empty() {
            self.keep().await;
            self.0.changed.send_modify(|version| *version = version.wrapping_add(1));
        }
    }

    /// Keeps incidents for the next start. A disk that does not take them costs a repetition then, no alert.
    async fn keep(&self) {
        let kept = locked(&self.0.board).kept();
        let path = self.0.options.kept.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let bytes = serde_json::to_vec(&kept).map_err(std::io::Error::other)?;
            replace_file(&path, &bytes, None)
        });
        if let Ok(Err(error)) = stored.await {
            tracing::error!(category = "application", %error, "alerts were not kept");
        }
    }

    /// Has a task for each webhook as it is configured now.
    fn follow(&self, telling: &mut HashMap<String, (Webhook, JoinHandle<()>)>) {
        let wanted = self.webhooks();
        telling.retain(|name, (webhook, task)| {
            let stays = wanted.get(name) == Some(webhook);
            if !stays {
                task.abort();
            }
            stays
        });
        locked(&self.0.deliveries).retain(|name, _| wanted.contains_key(name));
        for (name, webhook) in wanted {
            telling.entry(name).or_insert_with_key(|name| {
                let task = tokio::spawn(self.clone().tell(name.clone(), webhook.clone()));
                (webhook, task)
            });
        }
    }

    /// Tells one webhook what it has not been told, in order, for ever.
    async fn tell(self, name: String, webhook: Webhook) {
        let mut changed = self.0.changed.subscribe();
        let mut pause = self.0.options.retry;
        loop {
            changed.mark_unchanged();
            let next = locked(&self.0.board).untold(&name).into_iter().next();
            let Some(incident) = next else {
                if changed.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let status = if incident.status == Status::Resolved { "resolved" } else { "firing" };
            let id = format!("msg_{}_{status}", incident.id);
            let sent = self.send(&webhook, &id, &incident.message()).await;
            let at = self.0.clock.now();
            let mut wait = None;
            {
                let mut deliveries = locked(&self.0.deliveries);
                let delivery = deliveries.entry(name.clone()).or_default();
                match sent {
                    Ok(()) => {
                        self.0.delivered.add(1);
                        delivery.delivered = delivery.delivered.saturating_add(1);
                        (delivery.last, delivery.problem) = (Some(at), None);
                        pause = self.0.options.retry;
                    }
                    Err(error) => {
                        self.0.failed.add(1);
                        delivery.failed = delivery.failed.saturating_add(1);
                        if delivery.problem.as_ref() != Some(&error.reason) {
                            tracing::warn!(category = "application", webhook = name, %error, "an alert was not taken");
                        }
                        delivery.problem = Some(error.reason);
                        wait = Some(error.retry_after.unwrap_or_else(|| jittered(pause)).min(LONGEST));
                        pause = pause.saturating_mul(2).min(LONGEST);
                    }
                }
            }
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => {
                    locked(&self.0.board).has_told(&name, &incident);
                    self.keep().await;
                }
            }
        }
    }
}

/// Three quarters to five quarters, so that companions do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [128_u8];
    // Without random bytes it is not spread.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.75 + f64::from(byte[0]) / 512.0)
}
