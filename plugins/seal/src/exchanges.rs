//! Key exchanges under way: one a tenant, for at most 256 values and ten minutes. Each costs two multiplications on a curve, so a
//! request does not make its own.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_hpke::{Batch, TenantKey};
use portcullis_policy::{Facts, Tenant};

/// Tenants with a key exchange under way. Beyond them the oldest is forgotten, and made anew when that tenant comes back.
pub const TENANTS: usize = 1024;
/// How long one is used: what was sealed with it is lost to whoever finds it in the memory of the proxy.
const LIFETIME: Duration = Duration::from_secs(600);

/// One of them.
#[derive(Debug)]
struct Exchange {
    batch: Batch,
    since: Duration,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Exchanges(BTreeMap<String, Exchange>);

impl Exchanges {
    /// The tenant's, and whether it was begun for this call. `None`: the host gives no randomness, or the key is none.
    pub fn with(
        &mut self,
        tenant: &Tenant,
        key: &TenantKey,
        now: Duration,
        facts: &mut dyn Facts,
    ) -> Option<(&mut Batch, bool)> {
        let name = tenant.as_str();
        let lasts = |held: &Exchange| !held.batch.is_spent() && now.saturating_sub(held.since) < LIFETIME;
        let is_new = !self.0.get(name).is_some_and(lasts);
        if is_new {
            let batch = Batch::begin(tenant, key, &facts.entropy()?)?;
            if self.0.len() >= TENANTS && !self.0.contains_key(name) {
                let oldest = self.0.iter().min_by_key(|(_, held)| held.since).map(|(name, _)| name.clone());
                self.0.remove(&oldest?);
            }
            self.0.insert(name.to_owned(), Exchange { batch, since: now });
        }
        self.0.get_mut(name).map(|held| (&mut held.batch, is_new))
    }
}
