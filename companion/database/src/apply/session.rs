//! A connection that is made again when it is lost.

use std::borrow::Borrow;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use crate::Error;

/// A connection `K` as `C` makes it: a client by itself, or one that a pool has parted with.
pub(super) struct Session<'c, C, K> {
    connect: &'c C,
    connection: K,
    patience: Duration,
    /// Run on each new connection.
    settings: String,
}

impl<'c, C, K> Session<'c, C, K>
where
    C: AsyncFn() -> Result<K, Error>,
    K: Borrow<Client>,
{
    pub async fn open(connect: &'c C, patience: Duration, settings: String) -> Result<Self, Error> {
        let connection = connect().await?;
        connection.borrow().batch_execute(&settings).await?;
        Ok(Self { connect, connection, patience, settings })
    }

    /// Another one like it.
    pub async fn sibling(&self) -> Result<Self, Error> {
        Self::open(self.connect, self.patience, self.settings.clone()).await
    }

    pub fn client(&self) -> &Client {
        self.connection.borrow()
    }

    /// Connects again where the connection was lost; a server that restarts is waited for. Answers whether it did.
    pub async fn revive(&mut self) -> Result<bool, Error> {
        if !self.client().is_closed() {
            return Ok(false);
        }
        let end = Instant::now() + self.patience;
        loop {
            let error = match (self.connect)().await {
                Ok(connection) => match connection.borrow().batch_execute(&self.settings).await {
                    Ok(()) => {
                        self.connection = connection;
                        return Ok(true);
                    }
                    Err(error) => Error::from(error),
                },
                // There is nothing to wait for.
                Err(error @ Error::Removed(_)) => return Err(error),
                Err(error) => error,
            };
            if Instant::now() >= end {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}
