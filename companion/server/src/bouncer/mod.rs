//! PgBouncer for the tenants' databases, managed by the companion: for programs that are not written in Rust.
//!
//! Its configuration follows the tenants: who gets a `database_url` is reached through it within seconds, who is removed is not any more,
//! and nothing is restarted. How many connections each tenant has follows its use, by the same rule as the companion's own pools, under one
//! cap. It is started and looked after (`PGBOUNCER=/usr/sbin/pgbouncer`), or somebody else starts it on our files
//! (`PGBOUNCER=outside`). Everything it is told goes through its console, on a Unix socket in [`Options::folder`].
//!
//! Against: see `portcullis_database::bouncer`. Not against: a companion that is away; PgBouncer goes on with what it was told last.
//! Limits: [`supervise::PAUSE`] for what runs when a tenant goes or moves; a PgBouncer that ends is started again, with a pause that
//! doubles up to [`supervise::LONGEST`].

mod figures;
mod files;
mod process;
mod supervise;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_database::bouncer::console::{Figures, Report};

use crate::databases::Databases;
use crate::keys::Keys;
use crate::metrics::Counter;
use files::Folder;
pub use supervise::Keeper;

/// Who starts PgBouncer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Starter {
    /// The companion, with this program.
    Companion(PathBuf),
    /// Somebody else, with `pgbouncer.ini` in the folder.
    Outside,
}

/// What an operator says of PgBouncer.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who starts it.
    pub starter: Starter,
    /// The folder of its files and its socket.
    pub folder: PathBuf,
    /// Where clients connect to.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// `session`, `transaction` or `statement`.
    pub mode: &'static str,
    /// Connections to all servers together.
    pub connections: usize,
    /// Clients at once.
    pub clients: u32,
    /// Certificate and key for clients.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How it speaks to servers that are not reached through a socket: `verify-ca`, `require`, `prefer` or `disable`.
    pub server_tls: &'static str,
    /// What servers' certificates must go back to.
    pub authorities: Option<PathBuf>,
    /// How often everything is looked at.
    pub pause: Duration,
}

/// How PgBouncer fares.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Whether its console answers.
    pub up: bool,
    /// Its process, if the companion has started it.
    pub process: Option<u32>,
    /// What is wrong, and what to do.
    pub problem: Option<String>,
    /// Why tenants with a server are not offered.
    pub not_offered: BTreeMap<String, String>,
    /// Connections that each tenant may have.
    pub sizes: BTreeMap<String, usize>,
    /// What it told last.
    pub report: Report,
}

struct Inner {
    options: Options,
    databases: Databases,
    keys: Keys,
    state: Mutex<State>,
    restarts: Counter,
    reloads: Counter,
}

/// PgBouncer. Cheap to clone.
#[derive(Clone)]
pub struct Bouncer(Arc<Inner>);

impl Bouncer {
    /// Prepares its folder; what looks after it is [`Keeper::run`].
    ///
    /// # Errors
    /// In words, with the remedy.
    pub fn new(options: Options, databases: Databases, keys: Keys) -> Result<(Self, Keeper), String> {
        let folder = Folder::open(&options.folder)?;
        let password = folder.password()?;
        let bouncer = Self(Arc::new(Inner {
            options,
            databases,
            keys,
            state: Mutex::default(),
            restarts: Counter::default(),
            reloads: Counter::default(),
        }));
        let keeper = Keeper::new(bouncer.clone(), folder, password);
        Ok((bouncer, keeper))
    }

    /// What an operator says of it.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// How it fares.
    #[must_use]
    pub fn state(&self) -> State {
        self.with(|state| state.clone())
    }

    /// How often it was started again, and how often it has read its files anew.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.0.restarts.value(), self.0.reloads.value())
    }

    /// A tenant's figures, and how many connections it may have; none when it is not reached through it.
    #[must_use]
    pub fn of(&self, tenant: &str) -> Option<(Figures, usize)> {
        self.with(|state| {
            let size = state.sizes.get(tenant).copied()?;
            Some((state.report.databases.get(tenant).copied().unwrap_or_default(), size))
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
