//! What a program that runs the companion within itself calls, instead of asking its API over the loopback.
//!
//! The same as the API does, with the same stores and counts, and none of its tokens: who calls is the program itself, and may do
//! all of it for every tenant. A tenant must exist, or the call fails as the API's would with 404.
//!
//! ```no_run
//! # async fn example(settings: portcullis_server::settings::Settings) -> Result<(), Box<dyn std::error::Error>> {
//! use portcullis_server::{clock::Clock, companion::Companion, tenant::TenantId};
//!
//! let companion = Companion::start(settings, Clock::System).await?;
//! let portcullis = companion.functions();
//! let acme = TenantId::new("acme")?;
//! if portcullis.check_rate_limit(&acme, "ada", "login").await?.allowed {
//!     let sealed = portcullis.encrypt_sensitive_data(b"DE02 1203".to_vec(), &acme, "iban").await?;
//!     portcullis.log_security_event("IBAN_CHANGED", &acme, Some("ada"), serde_json::Map::new()).await?;
//!     println!("{}", sealed.value);
//! }
//! # Ok(()) }
//! ```

use std::sync::Arc;
use std::time::Duration;

use portcullis_keyring::Plaintext;
use portcullis_limits::step::Spent;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::clock::{Clock, Timestamp};
use crate::databases::apply::Asked;
use crate::databases::jobs::{Outcome, TooMany};
use crate::databases::{Databases, SlowStatement};
use crate::event::{DetailsError, Event, EventType, Numbering, Severity, What};
use crate::keys::values::Sealed;
use crate::keys::{Keys, KeysError};
use crate::limits::{CheckError, Checks};
use crate::storage::{Storage, StorageError};
use crate::tenant::{TenantId, records};
use crate::trail::{Trail, TrailError};

/// Slow statements are counted so far back.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Characters of a user's name in an event.
const MAX_USER: usize = 50;

/// Why a call did nothing.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// Nobody of that name.
    #[error("no such tenant: {0}; `portcullis tenant add` or PUT /api/tenants/{{tenant_id}} makes one")]
    UnknownTenant(TenantId),
    /// An event that cannot be stored as it is.
    #[error("{0}")]
    Event(&'static str),
    /// Its details.
    #[error(transparent)]
    Details(#[from] DetailsError),
    /// The limits.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The audit trail: the event is not stored.
    #[error(transparent)]
    Trail(#[from] TrailError),
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The optimizations.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// How a tenant's database fares; the API tells more.
#[derive(Clone, Debug, PartialEq)]
pub struct PerformanceMetrics {
    /// Statements that its server has counted, else those that went through the pool.
    pub query_count: u64,
    /// Slow ones that were written down in the last 24 hours.
    pub slow_queries: u64,
    /// 0 to 1: connections in use of those that may be.
    pub connection_usage: f64,
    /// Connections that are open.
    pub pool_size: usize,
    /// Of these, idle.
    pub checked_in: usize,
    /// Of these, in use.
    pub checked_out: usize,
    /// None when it never was.
    pub last_optimization: Option<Timestamp>,
}

/// The functions. Cheap to clone.
#[derive(Clone)]
pub struct Functions {
    storage: Arc<dyn Storage>,
    keys: Keys,
    checks: Arc<Checks>,
    trail: Trail,
    databases: Databases,
    clock: Clock,
    numbering: Arc<Numbering>,
}

impl Functions {
    /// Over a companion's parts; [`Companion::functions`](crate::companion::Companion::functions) has them.
    #[must_use]
    pub fn new(
        storage: Arc<dyn Storage>,
        keys: Keys,
        checks: Arc<Checks>,
        trail: Trail,
        databases: Databases,
        clock: Clock,
    ) -> Self {
        Self { storage, keys, checks, trail, databases, clock, numbering: Arc::default() }
    }

    /// Makes the key that a tenant's data is sealed under, at once rather than with its first value; tells its version.
    ///
    /// # Errors
    /// [`FunctionError`]; also when the tenant has one.
    pub async fn generate_tenant_key(&self, tenant: &TenantId) -> Result<u32, FunctionError> {
        self.known(tenant).await?;
        let of = tenant.clone();
        let made = self.keys.run(move |keys| keys.create(of.as_tenant())).await?;
        Ok(made.current)
    }

    /// Seals a value of `data_type` under the tenant's key.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub async fn encrypt_sensitive_data(
        &self,
        data: Vec<u8>,
        tenant: &TenantId,
        data_type: &str,
    ) -> Result<Sealed, FunctionError> {
        self.known(tenant).await?;
        Ok(self.keys.encrypt_sensitive_data(data, tenant, data_type).await?)
    }

    /// Opens what [`encrypt_sensitive_data`](Self::encrypt_sensitive_data) has sealed, for the same tenant and `data_type`.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub async fn decrypt_sensitive_data(
        &self,
        value: &str,
        tenant: &TenantId,
        data_type: &str,
    ) -> Result<Plaintext, FunctionError> {
        self.known(tenant).await?;
        Ok(self.keys.decrypt_sensitive_data(value, tenant, data_type).await?)
    }

    /// Counts one action of a user: `api_call`, `login`, `file_upload` or `report_generation`.
    ///
    /// # Errors
    /// [`FunctionError`]: then nothing may be taken as allowed.
    pub async fn check_rate_limit(
        &self,
        tenant: &TenantId,
        user: &str,
        action: &str,
    ) -> Result<Spent, FunctionError> {
        self.known(tenant).await?;
        Ok(self.checks.count(tenant, user, action, None).await?)
    }

    /// Stores an event of the program's own; returns its name when it is durable. `AUDIT_GAP` is for what proxies report. `details`
    /// have at most [`MAX_DETAILS_BYTES`](crate::event::MAX_DETAILS_BYTES) as JSON, and [`MAX_DEPTH`](crate::event::MAX_DEPTH) levels.
    ///
    /// # Errors
    /// [`FunctionError`]: then it is not stored.
    pub async fn log_security_event(
        &self,
        event_type: &str,
        tenant: &TenantId,
        user: Option<&str>,
        details: Map<String, Value>,
    ) -> Result<String, FunctionError> {
        let event_type = EventType::new(&event_type.to_ascii_uppercase()).ok_or(FunctionError::Event(
            "event_type: must be a letter, then letters, digits and _, at most 100",
        ))?;
        if event_type.as_str() == EventType::AUDIT_GAP {
            return Err(FunctionError::Event("event_type: AUDIT_GAP is for what proxies report"));
        }
        let fits = |user: &str| user.chars().count() <= MAX_USER && !user.chars().any(char::is_control);
        if !user.is_none_or(fits) {
            return Err(FunctionError::Event(
                "user: must have at most 50 characters, none of them a control",
            ));
        }
        self.known(tenant).await?;
        let key = self
            .numbering
            .next()
            .ok_or(FunctionError::Event("the system gave no random bytes at the start"))?;
        let id = key.to_string();
        let at = self.clock.now();
        let what = What { tenant: tenant.clone(), event_type, severity: Severity::Info, at };
        let mut event = Event { user_id: user.map(str::to_owned), ..Event::reported(key, what, details)? };
        event.details.insert("source".to_owned(), "application".into());
        self.trail.append(vec![event]).await?;
        Ok(id)
    }

    /// Keeps `database_url` as the tenant's, if it is given, and looks the database through; waits until that is done.
    ///
    /// # Errors
    /// [`FunctionError`]. A database that could not be looked through is no error: the outcome says why.
    pub async fn optimize_tenant_database(
        &self,
        tenant: &TenantId,
        database_url: Option<Zeroizing<String>>,
    ) -> Result<Outcome, FunctionError> {
        self.known(tenant).await?;
        if database_url.is_some() {
            self.keys.set_database_url(tenant, database_url, self.clock.now()).await?;
            self.databases.refresh(tenant).await?;
        }
        let asked = Asked { by: "the program".to_owned(), correlation_id: "embedded".to_owned() };
        let mut progress = self.databases.optimize(vec![tenant.clone()], &asked)?.finished().await;
        Ok(progress.done.remove(tenant.as_str()).unwrap_or_default())
    }

    /// How a tenant's database fares.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub async fn get_performance_metrics(
        &self,
        tenant: &TenantId,
    ) -> Result<PerformanceMetrics, FunctionError> {
        self.known(tenant).await?;
        let since = self.clock.now().checked_sub(DAY).unwrap_or(Timestamp::UNIX_EPOCH);
        let state = self.databases.state(tenant).await?;
        Ok(PerformanceMetrics {
            query_count: state.query_count(),
            slow_queries: self.databases.slow_count(tenant, since).await?,
            connection_usage: state.pool.usage(),
            pool_size: state.pool.size,
            checked_in: state.pool.checked_in,
            checked_out: state.pool.checked_out,
            last_optimization: self.databases.last_optimization(tenant).await?,
        })
    }

    /// A tenant's slow statements, newest first.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub async fn get_slow_queries(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<SlowStatement>, FunctionError> {
        self.known(tenant).await?;
        Ok(self.databases.slow_queries(tenant, limit).await?)
    }

    async fn known(&self, tenant: &TenantId) -> Result<(), FunctionError> {
        // What was acknowledged before the question is in the answer.
        self.trail.caught_up().await;
        match records::exists(&*self.storage, tenant).await? {
            true => Ok(()),
            false => Err(FunctionError::UnknownTenant(tenant.clone())),
        }
    }
}
