//! What records tell of people, sealed under their tenant's key (`portcullis_keyring`), one message a record.
//!
//! The envelope is bound to tenant, table `audit_trail`, column `personal`, the event's number (`uid`) and the purpose
//! `audit`. A leaf of the trail hashes the ciphertext, so a shredding leaves every proof valid. What becomes of whom:
//! - a tenant has a key of its own, made for its first event; a name that nobody registered too, up to a bound
//!   ([`crate::keys::strangers`]), beyond which nothing of its people is kept;
//! - of a tenant whose keys were shredded the events are kept, and nothing of their people, until it gets a new key;
//! - while the store that holds the keys is away, those in memory go on sealing: what is sealed under a key that somebody
//!   shreds meanwhile is read by nobody. A batch with a tenant whose key is not in memory is refused
//!   ([`super::TrailError::Keys`]), and comes again: modules keep their records, a strict route answers 503.
//!
//! Not against: whoever reads the tables, where events stand in clear for queries; encrypt that disk.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use getrandom::SysRng;
use portcullis_keyring::{Context, Error, Plaintext, SealingKey, Session};
use rand_core::{TryCryptoRng, TryRng};

use crate::clock::monotonic;
use crate::keys::counts::is_failure;
use crate::keys::{Keys, KeysError, Place};
use crate::tenant::TenantId;

/// The longest that a batch waits for the store to confirm its keys.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the store is not asked after it did not answer.
const REST: Duration = Duration::from_secs(1);

const TABLE: &str = "audit_trail";
const COLUMN: &str = "personal";
const PURPOSE: &str = "audit";

fn place<'a>(tenant: &'a TenantId, row: &'a str) -> Context<'a> {
    Context { tenant: tenant.as_tenant(), table: TABLE, column: COLUMN, row, purpose: PURPOSE }
}

/// Where what the record `uid` tells of people is sealed to.
#[must_use]
pub fn place_of(tenant: &TenantId, uid: String) -> Place {
    let [table, column, purpose] = [TABLE, COLUMN, PURPOSE].map(str::to_owned);
    Place { tenant: tenant.clone(), table, column, row: uid, purpose }
}

/// The keys of a batch's tenants; none for those of whose people nothing is kept.
#[derive(Default)]
pub struct Seals {
    keys: HashMap<TenantId, Option<SealingKey>>,
    salts: Mutex<Salts>,
}

impl Seals {
    /// Seals what the event `row` of a tenant tells of people; `None` when nothing of it is kept.
    ///
    /// # Errors
    /// A tenant that is not of the batch, a random source that fails.
    pub fn seal(&self, tenant: &TenantId, row: &str, personal: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let unknown = || Error::UnknownTenant(tenant.to_string());
        let Some(key) = self.keys.get(tenant).ok_or_else(unknown)? else { return Ok(None) };
        let mut salts = self.salts.lock().unwrap_or_else(PoisonError::into_inner);
        key.seal(&place(tenant, row), personal, &mut *salts).map(Some)
    }
}

impl FromIterator<(TenantId, Option<SealingKey>)> for Seals {
    fn from_iter<T: IntoIterator<Item = (TenantId, Option<SealingKey>)>>(keys: T) -> Self {
        Self { keys: keys.into_iter().collect(), salts: Mutex::default() }
    }
}

/// The system's random bytes, asked for many at a time: salts stand in the envelopes in clear, so that nobody gains by those that
/// wait here.
#[derive(Default)]
struct Salts {
    bytes: Vec<u8>,
}

/// Bytes that are asked for at once.
const SALTS_BYTES: usize = 4096;

impl TryRng for Salts {
    type Error = getrandom::Error;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        SysRng.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        SysRng.try_next_u64()
    }

    fn try_fill_bytes(&mut self, wanted: &mut [u8]) -> Result<(), Self::Error> {
        if wanted.len() > SALTS_BYTES {
            return SysRng.try_fill_bytes(wanted);
        }
        if self.bytes.len() < wanted.len() {
            self.bytes.resize(SALTS_BYTES, 0);
            if let Err(error) = SysRng.try_fill_bytes(&mut self.bytes) {
                self.bytes.clear();
                return Err(error);
            }
        }
        // Each byte is given out once.
        let rest = self.bytes.len().saturating_sub(wanted.len());
        if let Some(fresh) = self.bytes.get(rest..) {
            wanted.copy_from_slice(fresh);
        }
        self.bytes.truncate(rest);
        Ok(())
    }
}

impl TryCryptoRng for Salts {}

/// Opens the records of a page, as of one moment. Its calls wait for the store: for threads that may block.
pub struct Opener<'a> {
    session: Session<'a>,
    /// Tenants without keys, which are not asked for again.
    closed: HashSet<TenantId>,
    unreadable: u64,
}

impl<'a> Opener<'a> {
    /// Opens with the keys of `session`.
    #[must_use]
    pub fn new(session: Session<'a>) -> Self {
        Self { session, closed: HashSet::new(), unreadable: 0 }
    }

    /// What was sealed for the event `row`; `None` when it cannot be read any more. That is no surprise after a shredding;
    /// everything else is told and counted: another key's or an altered envelope, versions below `min_decrypt_version`, a
    /// store that has lost the tenant's keys.
    ///
    /// # Errors
    /// The store or the root key is not to be had: it may be read later.
    pub fn open(
        &mut self,
        tenant: &TenantId,
        row: &str,
        sealed: &[u8],
    ) -> Result<Option<Plaintext>, KeysError> {
        if self.closed.contains(tenant) {
            return Ok(None);
        }
        match self.session.open(&place(tenant, row), sealed) {
            Ok(plain) => return Ok(Some(plain)),
            Err(error) if is_failure(&error) => return Err(error.into()),
            Err(Error::Shredded(_)) => {
                self.closed.insert(tenant.clone());
            }
            Err(error) => {
                self.unreadable = self.unreadable.saturating_add(1);
                if self.unreadable == 1 {
                    let tenant = tenant.as_str();
                    tracing::error!(category = "audit", tenant, row, %error, "what a record tells of people cannot be read");
                }
            }
        }
        Ok(None)
    }

    /// How many could not be read although nobody shredded their keys.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The revisions of the keys that were used: see [`crate::storage::Progress::keys`].
    #[must_use]
    pub fn revisions(&self) -> Vec<(String, u64)> {
        self.session.revisions().map(|(tenant, revision)| (tenant.to_owned(), revision)).collect()
    }
}

/// Tenants' keys as the trail uses them.
pub struct Vault {
    keys: Keys,
    /// When the store did not answer last.
    away: Mutex<Option<Instant>>,
}

impl Vault {
    /// Over the companion's keys.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self { keys, away: Mutex::new(None) }
    }

    /// Keys for a batch's tenants.
    ///
    /// # Errors
    /// The store does not answer, and not all of them are in memory; or the root key cannot be used.
    pub async fn seals(&self, tenants: HashSet<TenantId>) -> Result<Seals, KeysError> {
        let held = |tenants: &HashSet<TenantId>| -> Option<Seals> {
            let key = |tenant: &TenantId| Some((tenant.clone(), Some(self.keys.held(tenant)?)));
            tenants.iter().map(key).collect()
        };
        if self.rests()
            && let Some(seals) = held(&tenants)
        {
            return Ok(seals);
        }
        let wanted = tenants.clone();
        let ask = self.keys.run(move |keys| {
            let key = |tenant: TenantId| Ok((tenant.clone(), keys.event_key(tenant.as_tenant())?));
            wanted.into_iter().map(key).collect::<Result<Seals, KeysError>>()
        });
        let error = match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Ok(seals)) => return Ok(seals),
            Ok(Err(error)) => error,
            Err(_) => KeysError::Busy,
        };
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(monotonic());
        held(&tenants).ok_or(error)
    }

    /// Whether the store has just not answered.
    fn rests(&self) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.is_some_and(|since| monotonic().saturating_duration_since(since) < REST)
    }

    /// Opens records, as of now.
    #[must_use]
    pub fn opener(&self) -> Opener<'_> {
        Opener::new(self.keys.blocking().session())
    }
}
