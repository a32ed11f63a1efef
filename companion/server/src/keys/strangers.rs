//! Keys of names that nobody registered: the trail takes their events, and seals what these tell of people too.
//!
//! A key is made for each such name, so that a shredding reaches what came before the name was registered. Whoever can send
//! names could fill the store with keys: at most [`MOST`] are made; beyond them nothing of those people is kept.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use getrandom::SysRng;
use portcullis_keyring::{Error, SealingKey, Tenant};

use super::{Blocking, KeysError};
use crate::clock::monotonic;
use crate::storage::Statement;

/// The most keys of names that are no tenants.
pub const MOST: u64 = 10_000;
/// How often they are counted again when there are so many: some become tenants.
const RECOUNT: Duration = Duration::from_secs(60);

/// How many there are, and when that was counted.
#[derive(Default)]
pub struct Strangers(Mutex<Option<(u64, Instant)>>);

impl Blocking<'_> {
    /// The key for what a tenant's event tells of people, made for its first one; `None` when nothing of them is to be kept:
    /// the tenant's keys were shredded, or it is one stranger too many.
    ///
    /// # Errors
    /// A store, root key or random source that fails.
    pub fn event_key(&self, tenant: &Tenant) -> Result<Option<SealingKey>, KeysError> {
        let keyring = self.keyring();
        match keyring.sealing_key(tenant) {
            Err(Error::UnknownTenant(_) | Error::Shredded(_)) => {}
            found => return Ok(Some(found?)),
        }
        match self.ensure(tenant) {
            Ok(()) => {}
            Err(KeysError::Keyring(Error::Shredded(_))) => return Ok(None),
            Err(KeysError::Keyring(Error::UnknownTenant(_))) => {
                if !self.admits_stranger()? {
                    return Ok(None);
                }
                match keyring.generate_tenant_key(tenant, self.now(), &mut SysRng) {
                    // Somebody else was faster.
                    Ok(_) | Err(Error::Exists(_)) => {}
                    Err(Error::Shredded(_)) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
        Ok(Some(keyring.sealing_key(tenant)?))
    }

    fn admits_stranger(&self) -> Result<bool, KeysError> {
        let mut known = self.0.strangers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut count, mut counted) = match *known {
            Some(known) if known.0 < MOST || known.1.elapsed() < RECOUNT => known,
            _ => (self.count_strangers()?, monotonic()),
        };
        let admitted = count < MOST;
        if admitted {
            count = count.saturating_add(1);
        } else if known.is_none_or(|known| known.0 < MOST) {
            counted = monotonic();
            tracing::warn!(
                category = "security",
                keys = MOST,
                "events come of ever more names that are no tenants: nothing of their people is kept any more"
            );
        }
        *known = Some((count, counted));
        Ok(admitted)
    }

    fn count_strangers(&self) -> Result<u64, KeysError> {
        let count = Statement::new(
            "SELECT count(*) FROM tenant_keys WHERE shredded_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM tenants WHERE tenants.tenant_id = tenant_keys.tenant_id)",
        );
        let rows = self.wait(self.0.storage.read(count))?;
        let count = rows.first().map(|row| row.int(0)).transpose()?.unwrap_or(0);
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
