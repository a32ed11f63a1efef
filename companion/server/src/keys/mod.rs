//! Tenants' keys as the companion uses them: the keyring over its own store, for everything that seals and opens.
//!
//! Against a stolen store: values, and addresses of databases, lie in it sealed, and the keys beside them wrapped under a root
//! key that is not in it ([`root`]). A tenant gets its key when something of it is sealed for the first time. A tenant that is
//! removed loses its keys for good; one that is added later under the same name is another one, and gets new keys.
//!
//! Who uses a key asks the store first whether it is still valid, so a shredding by any process holds when it returns, in
//! every companion on the store ([`store`]). Limits: [`MOST_AT_ONCE`] calls at once, beyond them and after two seconds
//! [`KeysError::Busy`]; [`CACHED_KEYS`] keys in memory.

mod address;
pub mod counts;
mod erasure;
pub mod minimum;
pub mod root;
mod schedule;
pub mod store;
pub mod strangers;
pub mod transit;
pub mod trim;
pub mod values;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use getrandom::SysRng;
use portcullis_keyring::{
    Context, Error, Keyring, Plaintext, SealingKey, ServiceError, Session, Tenant, TenantRecord,
};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::clock::Clock;
use crate::storage::{Storage, StorageError};
use crate::tenant::{TenantId, records};
use counts::{Call, Counts};
pub use erasure::finish_erasures;
pub use minimum::Minimum;
pub use root::{Absent, Root, RootError, Service};
pub use schedule::{Rotation, rotate_when_due};

/// Calls at once: each keeps a thread while it waits for the store.
const MOST_AT_ONCE: usize = 64;
/// The longest wait for a place among them.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a service that keeps the root key is looked after.
const LOOK_PAUSE: Duration = Duration::from_secs(10);
/// Keys in memory at least; at most about twice as many, some 30 MB.
const CACHED_KEYS: usize = 100_000;

/// Why nothing was sealed, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The keyring says why.
    #[error(transparent)]
    Keyring(#[from] Error),
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Too many calls at once.
    #[error("too many calls for keys at once")]
    Busy,
    /// The audit trail may hold records that older versions sealed.
    #[error(
        "tenant {tenant}: until {until} the audit trail may hold records that versions below {version} sealed; what they tell of \
         people could not be read any more; wait, or force it"
    )]
    StillNeeded {
        /// Whose.
        tenant: String,
        /// The least that was to open.
        version: u32,
        /// RFC 3339, UTC.
        until: String,
    },
}

impl From<ServiceError> for KeysError {
    fn from(error: ServiceError) -> Self {
        Self::Keyring(error.into())
    }
}

/// Where a value lies, and what it is for: bound to it when it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose it is.
    pub tenant: TenantId,
    /// In which table.
    pub table: String,
    /// In which column.
    pub column: String,
    /// In which row.
    pub row: String,
    /// What for.
    pub purpose: String,
}

impl Place {
    /// As the keyring takes it.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context {
            tenant: self.tenant.as_tenant(),
            table: &self.table,
            column: &self.column,
            row: &self.row,
            purpose: &self.purpose,
        }
    }
}

/// Tenants' keys. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    keyring: Keyring,
    root: Arc<Root>,
    storage: Arc<dyn Storage>,
    clock: Clock,
    runtime: Handle,
    places: Arc<Semaphore>,
    counts: Counts,
    strangers: strangers::Strangers,
}

impl Keys {
    /// The keys in `storage`, wrapped by `service`. To be called within a runtime.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, service: &Service, clock: Clock) -> Self {
        let table = Arc::new(store::KeyTable::new(Arc::clone(&storage)));
        Self(Arc::new(Inner {
            keyring: Keyring::new(service.0.clone(), table, CACHED_KEYS),
            root: Arc::clone(&service.0),
            storage,
            clock,
            runtime: Handle::current(),
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            counts: Counts::default(),
            strangers: strangers::Strangers::default(),
        }))
    }

    /// Does `work` on a thread that may block.
    ///
    /// # Errors
    /// What `work` says, or [`KeysError::Busy`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Blocking<'_>) -> Result<T, KeysError> + Send + 'static,
    ) -> Result<T, KeysError> {
        let keys = self.clone();
        // Each such thread may ask for another one to read with: all of them at once must not be ours.
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&self.0.places).acquire_owned())
            .await
            .map_err(|_| KeysError::Busy)?
            .map_err(|_| KeysError::Busy)?;
        let task = tokio::task::spawn_blocking(move || {
            // Lives as long as the thread is taken, even when the asker has gone away.
            let _place = place;
            work(&keys.blocking())
        });
        let done = task.await;
        done.map_err(|error| KeysError::Storage(StorageError::Failed(error.to_string())))?
    }

    /// The same keys for a thread of the caller's own that may block. A thread that runs asynchronous tasks must not: it
    /// panics there.
    #[must_use]
    pub fn blocking(&self) -> Blocking<'_> {
        Blocking(&self.0)
    }

    /// A tenant's sealing key out of memory alone, which asks nobody whether it is still the newest.
    #[must_use]
    pub fn held(&self, tenant: &TenantId) -> Option<SealingKey> {
        self.0.keyring.held_sealing_key(tenant.as_tenant())
    }

    /// Seals `message` for `place`; the tenant's first key is made for it.
    ///
    /// # Errors
    /// A tenant that does not exist or whose keys were shredded; a store, root key or random source that fails.
    pub async fn seal(&self, place: Place, message: Vec<u8>) -> Result<Vec<u8>, KeysError> {
        let message = zeroize::Zeroizing::new(message);
        let sealed = self.run(move |keys| keys.seal(&place.context(), &message)).await;
        self.0.counts.count(Call::Seal, sealed)
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub async fn open(&self, place: Place, envelope: Vec<u8>) -> Result<Plaintext, KeysError> {
        let opened = self.run(move |keys| Ok(keys.keyring().open(&place.context(), &envelope)?)).await;
        self.0.counts.count(Call::Open, opened)
    }

    /// What was sealed, opened, rotated and shredded.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// The counters as Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.counts.render(self.0.keyring.cached_keys(), self.0.root.calls())
    }

    /// Whether keys that are not in memory can be had, as far as is known.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.0.root.is_available()
    }

    /// Asks the service that keeps the root key, if one does, whether it does what it must. One that is away now may
    /// come back: that is logged, and no error.
    ///
    /// # Errors
    /// [`ServiceError::Denied`] with the remedy.
    pub async fn verify_root(&self) -> Result<(), KeysError> {
        let verified = self.run(|keys| Ok(keys.0.root.verify()?)).await;
        match verified {
            Err(KeysError::Keyring(Error::Service(ServiceError::Unavailable(_)))) => Ok(()),
            done => done,
        }
    }

    /// Looks after the service that keeps the root key, until `end` says true.
    pub async fn watch_root(self, mut end: watch::Receiver<bool>) {
        while self.0.root.is_service() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_PAUSE) => {}
                _ = end.wait_for(|end| *end) => return,
            }
            let root = Arc::clone(&self.0.root);
            let _ = tokio::task::spawn_blocking(move || root.look()).await;
        }
    }
}

/// Tenants' keys for a thread that may block.
pub struct Blocking<'a>(&'a Inner);

impl<'a> Blocking<'a> {
    /// Many seals and opens as of one moment.
    #[must_use]
    pub fn session(&self) -> Session<'a> {
        self.0.keyring.session()
    }
}

impl Blocking<'_> {
    /// The keyring itself.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.0.clock.now().as_millisecond()
    }

    /// As [`Keys::seal`].
    ///
    /// # Errors
    /// As [`Keys::seal`].
    pub fn seal(&self, context: &Context<'_>, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        match self.0.keyring.seal(context, message, &mut SysRng) {
            Err(Error::UnknownTenant(_) | Error::Shredded(_)) => {
                self.ensure(context.tenant)?;
                Ok(self.0.keyring.seal(context, message, &mut SysRng)?)
            }
            done => Ok(done?),
        }
    }

    /// Makes the key of a tenant that has none, if the tenant exists and was not shredded since it was added.
    ///
    /// # Errors
    /// A tenant that does not exist or whose keys were shredded; a store, root key or random source that fails.
    pub fn ensure(&self, tenant: &Tenant) -> Result<(), KeysError> {
        let made = match self.0.keyring.record(tenant) {
            Ok(_) => return Ok(()),
            Err(Error::UnknownTenant(name)) => {
                self.tenant_since(tenant)?.ok_or(Error::UnknownTenant(name))?;
                self.0.keyring.generate_tenant_key(tenant, self.now(), &mut SysRng)
            }
            Err(Error::Shredded(name)) => {
                let shredded = self.0.keyring.any_record(tenant)?.shredded_at;
                let since = self.tenant_since(tenant)?;
                if since.zip(shredded).is_none_or(|(since, shredded)| since <= shredded) {
                    return Err(Error::Shredded(name).into());
                }
                self.0.keyring.renew(tenant, self.now(), &mut SysRng)
            }
            Err(error) => return Err(error.into()),
        };
        match made {
            // Somebody else was faster.
            Ok(_) | Err(Error::Exists(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a tenant's key because somebody asked for it, after a shredding too.
    ///
    /// # Errors
    /// A tenant that has one; a store, root key or random source that fails.
    pub fn create(&self, tenant: &Tenant) -> Result<TenantRecord, KeysError> {
        match self.0.keyring.generate_tenant_key(tenant, self.now(), &mut SysRng) {
            Err(Error::Shredded(_)) => Ok(self.0.keyring.renew(tenant, self.now(), &mut SysRng)?),
            made => Ok(made?),
        }
    }

    /// Deletes a tenant's keys alone; a tenant that never had any is no error.
    ///
    /// # Errors
    /// The store fails.
    fn shred(&self, tenant: &Tenant) -> Result<(), KeysError> {
        match self.0.keyring.shred(tenant, self.now()) {
            Err(Error::UnknownTenant(_)) => Ok(()),
            Ok(()) => {
                self.0.counts.shreddings.add(1);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// When the tenant was added, in milliseconds since the Unix epoch.
    fn tenant_since(&self, tenant: &Tenant) -> Result<Option<i64>, KeysError> {
        let tenant = TenantId::from(tenant.clone());
        let found = self.wait(records::find(&*self.0.storage, &tenant))?;
        Ok(found.map(|record| record.created_at.as_millisecond()))
    }

    /// Waits for the store.
    fn wait<T>(&self, pending: impl Future<Output = Result<T, StorageError>>) -> Result<T, KeysError> {
        Ok(self.0.runtime.block_on(pending)?)
    }
}
