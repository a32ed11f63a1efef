//! The generation of a store of limits that was last in use, in the companion's own database: so that the loss of the one
//! is noticed by the other.

use std::sync::Arc;

use portcullis_limits::redis::{Later, Memory};

use crate::storage::{Statement, Storage, StorageError, Transaction};

/// What is remembered of one kind of store.
#[derive(Clone)]
pub struct Generation {
    storage: Arc<dyn Storage>,
    store: &'static str,
}

impl Generation {
    /// Of the store of that name.
    #[must_use]
    pub fn of(storage: Arc<dyn Storage>, store: &'static str) -> Self {
        Self { storage, store }
    }

    /// The generation that was last in use.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn known(&self) -> Result<Option<String>, StorageError> {
        let known = Statement::new("SELECT generation FROM limits_generation WHERE store = ?1");
        let rows = self.storage.read(known.bind(self.store)).await?;
        rows.first().map(|row| row.text(0)).transpose()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn keep(&self, generation: &str) -> Result<(), StorageError> {
        let keep = Statement::new(
            "INSERT INTO limits_generation (store, generation) VALUES (?1, ?2) \
             ON CONFLICT (store) DO UPDATE SET generation = excluded.generation",
        );
        let keep = keep.bind(self.store).bind(generation);
        self.storage.write(Transaction::new().then(keep)).await.map(drop)
    }
}

impl Memory for Generation {
    fn recall(&self) -> Later<'_, Option<String>> {
        Box::pin(async { self.known().await.map_err(|error| error.to_string()) })
    }

    fn remember(&self, generation: String) -> Later<'_, ()> {
        Box::pin(async move { self.keep(&generation).await.map_err(|error| error.to_string()) })
    }
}
