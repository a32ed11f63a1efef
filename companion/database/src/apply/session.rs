//! A connection that is made again when it is lost.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use crate::Error;

pub(super) struct Session<'c, C> {
    connect: &'c C,
    client: Client,
    patience: Duration,
    /// Run on each new connection.
    settings: String,
}

impl<'c, C> Session<'c, C>
where
    C: AsyncFn() -> Result<Client, Error>,
{
    pub async fn open(connect: &'c C, patience: Duration, settings: String) -> Result<Self, Error> {
        let client = connect().await?;
        client.batch_execute(&settings).await?;
        Ok(Self { connect, client, patience, settings })
    }

    /// Another one like it.
    pub async fn sibling(&self) -> Result<Self, Error> {
        Self::open(self.connect, self.patience, self.settings.clone()).await
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Connects again where the connection was lost; a server that restarts is waited for. Answers whether it did.
    pub async fn revive(&mut self) -> Result<bool, Error> {
        if !self.client.is_closed() {
            return Ok(false);
        }
        let end = Instant::now() + self.patience;
        loop {
            let error = match (self.connect)().await {
                Ok(client) => match client.batch_execute(&self.settings).await {
                    Ok(()) => {
                        self.client = client;
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
