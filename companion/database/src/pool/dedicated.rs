//! A connection that its pool has parted with: for work that keeps a session for long and sets it up for itself, as building indexes.
//!
//! It was made and proven like every other, has a place under the tenant's and the common cap for as long as it lives, and ends when it is
//! dropped: nothing that was set on it reaches anybody else. It is for work that changes no rows of others: the cache does not look at it.

use std::borrow::Borrow;

use deadpool::managed::Object;
use tokio::sync::oneshot;
use tokio_postgres::Client;

use super::connection::Connection;
use super::gate::Slot;
use super::{PoolError, Pools};

/// A connection to a server, of nobody else.
pub struct Dedicated {
    client: Client,
    /// Dropped with the client.
    _alive: oneshot::Sender<()>,
    _slot: Slot,
}

impl Borrow<Client> for Dedicated {
    fn borrow(&self) -> &Client {
        &self.client
    }
}

impl Pools {
    /// Parts with a connection of a tenant.
    ///
    /// # Errors
    /// [`PoolError`], as [`Pools::lend`]; [`PoolError::NoServer`] when it is a file.
    pub async fn dedicate(&self, tenant: &str) -> Result<Dedicated, PoolError> {
        let (_, slot, object) = self.connection(tenant).await?;
        match Object::take(object) {
            Connection::Postgres { client, _alive, .. } => Ok(Dedicated { client, _alive, _slot: slot }),
            Connection::Sqlite { .. } => Err(PoolError::NoServer),
        }
    }
}
