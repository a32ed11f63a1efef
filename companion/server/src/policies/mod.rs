//! The policies of each tenant: rates, passwords, sessions, and what may be done to its database.
//!
//! A tenant that changed nothing has the defaults ([`SecurityPolicies::default`], over them `RATE_LIMIT_*`). What it changed
//! is kept alone, so that a new default reaches everybody who has none of their own. Each change of any tenant takes the
//! next version of the whole store: who has seen version 7 asks for what changed since 7 ([`Policies::changed_since`]), and
//! is woken by [`Policies::watch`] when this process changes something; a change by another process on the same store is
//! found by asking.
//!
//! What is asked often is kept in memory, of at most [`KNOWN_TENANTS`] tenants: those that were asked for. Every second the
//! changes since are read; when they are more than [`CHANGES`], all that is kept is dropped and read again as it is asked for.
//! So neither a start nor a change of a million tenants' policies makes anybody wait for a million. A store that is slow or away makes
//! nobody wait in line: one asks, the others have what is in memory for up to [`STALE`], or the same answer.
//!
//! Limits: the fields below and their ranges; a change that names anything else is refused whole.

mod fields;
mod sections;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::clock::{Timestamp, monotonic};
use crate::storage::{Done, Row, Statement, Storage, StorageError, Transaction};
use crate::tenant::TenantId;
pub use fields::{PatchError, patch_schema};
pub use sections::{DatabasePolicy, PasswordPolicy, RatePolicy, SecurityPolicies, SessionPolicy};

/// The policies of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPolicies {
    /// Whose.
    pub tenant: TenantId,
    /// What holds: its own, and the defaults for the rest.
    pub policies: SecurityPolicies,
    /// 0 for a tenant that never changed any.
    pub version: u64,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// What was asked for cannot be.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// Somebody was faster than the version that the change was made from.
    #[error("version: is {found} by now; read the policies again")]
    Outdated {
        /// The present version.
        found: u64,
    },
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The policies of all tenants.
#[derive(Clone)]
pub struct Policies {
    storage: Arc<dyn Storage>,
    defaults: Arc<SecurityPolicies>,
    changed: watch::Sender<u64>,
    known: Arc<Mutex<Known>>,
    /// The turn of who reads for all.
    reading: Arc<tokio::sync::Mutex<()>>,
}

/// What holds for tenants that were asked for, as it was read last.
#[derive(Default)]
struct Known {
    /// All changes up to this version are heeded.
    version: u64,
    read: Option<Instant>,
    /// When the store did not answer, and what it said.
    failed: Option<(Instant, StorageError)>,
    whole: HashMap<TenantId, Arc<SecurityPolicies>>,
}

/// How long what was read counts: a change by another process is known this much later.
const KNOWN_LIFE: Duration = Duration::from_secs(1);
/// How long it counts while the store is asked, or does not answer.
pub const STALE: Duration = Duration::from_secs(10);
/// Tenants that are kept in memory. More: all are dropped, and read again as they are asked for.
pub const KNOWN_TENANTS: usize = 100_000;
/// Changes that are read one by one.
pub const CHANGES: u32 = 1000;
/// Tenants of one statement.
const TOGETHER: usize = 16;

/// Changes of any tenant come one after the other: that is what makes versions an order.
pub const LOCK: &str = "policies";

/// Takes all defaults again, for a tenant that goes: under [`LOCK`], as the last statement of a transaction whose answers
/// [`Policies::heed`] is told.
#[must_use]
pub fn forgotten(tenant: &TenantId, now: Timestamp) -> Statement {
    Statement::new(
        "UPDATE security_policies SET policy = ?2, updated_at = ?3, \
         version = (SELECT coalesce(max(version), 0) + 1 FROM security_policies) \
         WHERE tenant_id = ?1 AND policy <> ?2 RETURNING version",
    )
    .bind(tenant.as_str())
    .bind(Value::Object(Map::new()))
    .bind(now)
}

impl Policies {
    /// Those in `storage`, over `defaults`.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, defaults: SecurityPolicies) -> Self {
        Self {
            storage,
            defaults: Arc::new(defaults),
            changed: watch::Sender::new(0),
            known: Arc::default(),
            reading: Arc::default(),
        }
    }

    /// What a tenant has that changed nothing.
    #[must_use]
    pub fn defaults(&self) -> &SecurityPolicies {
        &self.defaults
    }

    /// Wakes when this process changed the policies of a tenant; holds the newest version it knows.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The policies of a tenant, whether or not it exists.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn of(&self, tenant: &TenantId) -> Result<TenantPolicies, StorageError> {
        let (own, version) = self.own(tenant).await?;
        self.whole(tenant.clone(), &own, version)
    }

    /// What holds for each of `tenants`, in order: from memory, for those who ask often. A change made here counts at once,
    /// one of another process within a second, or [`STALE`] while the store is slow.
    ///
    /// # Errors
    /// The store does not answer, or did not a moment ago.
    pub async fn known(&self, tenants: &[TenantId]) -> Result<Vec<Arc<SecurityPolicies>>, StorageError> {
        if let Some(answer) = self.remembered(tenants, KNOWN_LIFE) {
            return Ok(answer);
        }
        // One reads; who comes meanwhile makes do with what is in memory, or waits for the same answer.
        let _turn = match self.reading.try_lock() {
            Ok(turn) => turn,
            Err(_) => match self.remembered(tenants, STALE) {
                Some(answer) => return Ok(answer),
                None => self.reading.lock().await,
            },
        };
        if let Some(answer) = self.remembered(tenants, KNOWN_LIFE) {
            return Ok(answer);
        }
        let failed = self.memory().failed.clone();
        let read = match failed.filter(|(at, _)| at.elapsed() < KNOWN_LIFE) {
            Some((_, error)) => Err(error),
            None => self.look(tenants).await.inspect_err(|error| {
                self.memory().failed = Some((monotonic(), error.clone()));
            }),
        };
        match read {
            Ok(()) => {
                let known = self.memory();
                let of = |tenant| known.whole.get(tenant).unwrap_or(&self.defaults);
                Ok(tenants.iter().map(|tenant| Arc::clone(of(tenant))).collect())
            }
            Err(error) => self.remembered(tenants, STALE).ok_or(error),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in memory of all `tenants`, if it was read within `life` and has what was changed here.
    fn remembered(&self, tenants: &[TenantId], life: Duration) -> Option<Vec<Arc<SecurityPolicies>>> {
        let known = self.memory();
        if !self.is_fresh(&known, life) {
            return None;
        }
        tenants.iter().map(|tenant| known.whole.get(tenant).map(Arc::clone)).collect()
    }

    fn is_fresh(&self, known: &Known, life: Duration) -> bool {
        known.read.is_some_and(|read| read.elapsed() < life) && known.version >= *self.changed.borrow()
    }

    /// Reads what has changed, and what is not in memory of `tenants`. One task at a time.
    async fn look(&self, tenants: &[TenantId]) -> Result<(), StorageError> {
        let fresh = self.is_fresh(&self.memory(), KNOWN_LIFE);
        if !fresh {
            self.catch_up().await?;
        }
        let missing = {
            let mut known = self.memory();
            let missing: Vec<&TenantId> =
                tenants.iter().filter(|tenant| !known.whole.contains_key(*tenant)).collect();
            match known.whole.len().saturating_add(missing.len()) > KNOWN_TENANTS {
                true => {
                    known.whole.clear();
                    tenants.iter().collect()
                }
                false => missing,
            }
        };
        for some in missing.chunks(TOGETHER) {
            self.learn(some).await?;
        }
        Ok(())
    }

    /// Heeds what has changed since it was last looked.
    async fn catch_up(&self) -> Result<(), StorageError> {
        let most = usize::try_from(CHANGES).unwrap_or(usize::MAX);
        let seen = {
            let known = self.memory();
            (!known.whole.is_empty()).then_some(known.version)
        };
        let page = match seen {
            Some(version) => Some(self.changed_since(version, CHANGES).await?),
            None => None,
        };
        match page.filter(|page| page.len() < most) {
            Some(page) => {
                let mut known = self.memory();
                for TenantPolicies { tenant, policies, version } in page {
                    known.version = version;
                    if let Some(place) = known.whole.get_mut(&tenant) {
                        *place = Arc::new(policies);
                    }
                }
                known.read = Some(monotonic());
            }
            None => {
                // What is read from now on is at least as new as this.
                let newest = self.newest().await?;
                let mut known = self.memory();
                known.version = newest;
                known.whole.clear();
                known.read = Some(monotonic());
            }
        }
        Ok(())
    }

    /// Reads what holds for some tenants, at most [`TOGETHER`].
    async fn learn(&self, tenants: &[&TenantId]) -> Result<(), StorageError> {
        let mut own = Statement::new(
            "SELECT policy, version, tenant_id FROM security_policies WHERE tenant_id IN \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        );
        // A place that is left over asks for the last one again.
        let last = tenants.last().into_iter().cycle();
        for tenant in tenants.iter().chain(last).take(TOGETHER) {
            own = own.bind(tenant.as_str());
        }
        let rows = self.storage.read(own).await?;
        let read = self.read(&rows)?;
        let mut known = self.memory();
        for tenant in tenants {
            known.whole.insert((*tenant).clone(), Arc::clone(&self.defaults));
        }
        for TenantPolicies { tenant, policies, .. } in read {
            known.whole.insert(tenant, Arc::new(policies));
        }
        Ok(())
    }

    /// The newest version of any tenant's policies.
    async fn newest(&self) -> Result<u64, StorageError> {
        let newest = Statement::new("SELECT coalesce(max(version), 0) FROM security_policies");
        let rows = self.storage.read(newest).await?;
        rows.first().map_or(Ok(0), |row| Ok(u64::try_from(row.int(0)?).unwrap_or(0)))
    }

    /// At most `limit` tenants whose policies changed after `version`, in order of their versions. A tenant that was
    /// removed is among them, with the defaults.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn changed_since(&self, version: u64, limit: u32) -> Result<Vec<TenantPolicies>, StorageError> {
        let changed = Statement::new(
            "SELECT policy, version, tenant_id FROM security_policies WHERE version > ?1 ORDER BY version LIMIT ?2",
        );
        let rows = self.storage.read(changed.bind(stored_version(version)).bind(limit)).await?;
        self.read(&rows)
    }

    /// Rows of policy, version and tenant.
    fn read(&self, rows: &[Row]) -> Result<Vec<TenantPolicies>, StorageError> {
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let (own, version) = parts(row)?;
            // A name that another program wrote and that is none of ours is passed over.
            let Ok(tenant) = TenantId::new(&row.text(2)?) else { continue };
            let whole = self.whole(tenant.clone(), &own, version).unwrap_or_else(|error| {
                // Another release's, or by hand: it must not keep other tenants from what they have.
                tracing::error!(category = "security", tenant = tenant.as_str(), %error, "the defaults hold for a tenant");
                TenantPolicies { tenant, policies: (*self.defaults).clone(), version }
            });
            found.push(whole);
        }
        Ok(found)
    }

    /// Changes what `patch` names: a value sets it, null takes the default again. With `expected`, only if the tenant's
    /// version is still that one.
    ///
    /// # Errors
    /// [`ChangeError`] names the field; then nothing has changed.
    pub async fn change(
        &self,
        tenant: &TenantId,
        patch: &Value,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<TenantPolicies, ChangeError> {
        // A few tries: another change of this tenant may come in between.
        for _ in 0..5 {
            let (mut own, version) = self.own(tenant).await?;
            if expected.is_some_and(|expected| expected != version) {
                return Err(ChangeError::Outdated { found: version });
            }
            fields::apply(&mut own, patch)?;
            let whole = self.whole(tenant.clone(), &own, version)?;
            fields::check_whole(&whole.policies)?;
            match self.store(tenant, own, version, now).await {
                Ok(version) => return Ok(TenantPolicies { version, ..whole }),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StorageError::Busy.into())
    }

    /// Wakes those who watch, when the last of a transaction's statements has returned a version.
    ///
    /// # Errors
    /// It returned something else.
    pub fn heed(&self, done: &[Done]) -> Result<(), StorageError> {
        let Some(row) = done.last().and_then(|step| step.rows.first()) else { return Ok(()) };
        self.announce(u64::try_from(row.int(0)?).unwrap_or(0));
        Ok(())
    }

    fn announce(&self, version: u64) {
        self.changed.send_if_modified(|newest| {
            let grown = version > *newest;
            *newest = version.max(*newest);
            grown
        });
    }

    async fn own(&self, tenant: &TenantId) -> Result<(Map<String, Value>, u64), StorageError> {
        let own = Statement::new("SELECT policy, version FROM security_policies WHERE tenant_id = ?1");
        let rows = self.storage.read(own.bind(tenant.as_str())).await?;
        rows.first().map_or(Ok((Map::new(), 0)), parts)
    }

    /// Stores a tenant's own policies if its version is still `version`; tells the new one.
    async fn store(
        &self,
        tenant: &TenantId,
        own: Map<String, Value>,
        version: u64,
        now: Timestamp,
    ) -> Result<u64, StorageError> {
        let statement = Statement::new(
            "INSERT INTO security_policies (tenant_id, policy, version, created_at, updated_at) \
             VALUES (?1, ?2, (SELECT coalesce(max(version), 0) + 1 FROM security_policies), ?3, ?3) \
             ON CONFLICT (tenant_id) DO UPDATE SET policy = excluded.policy, version = excluded.version, \
             updated_at = excluded.updated_at WHERE security_policies.version = ?4 RETURNING version",
        )
        .bind(tenant.as_str())
        .bind(Value::Object(own))
        .bind(now)
        .bind(stored_version(version))
        .must_change(1);
        let done = self.storage.write(Transaction::new().lock(LOCK).then(statement)).await?;
        let row = done.first().and_then(|step| step.rows.first()).ok_or(StorageError::Conflict)?;
        let version = u64::try_from(row.int(0)?).unwrap_or(0);
        self.announce(version);
        Ok(version)
    }

    fn whole(
        &self,
        tenant: TenantId,
        own: &Map<String, Value>,
        version: u64,
    ) -> Result<TenantPolicies, StorageError> {
        let policies = fields::over(&self.defaults, own).ok_or_else(|| {
            StorageError::Failed(format!("security_policies: what {tenant} has is not readable"))
        })?;
        Ok(TenantPolicies { tenant, policies, version })
    }
}

fn stored_version(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn parts(row: &Row) -> Result<(Map<String, Value>, u64), StorageError> {
    let own = match row.json(0)? {
        Value::Object(own) => own,
        _ => Map::new(),
    };
    Ok((own, u64::try_from(row.int(1)?).unwrap_or(0)))
}
