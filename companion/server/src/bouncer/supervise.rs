//! Keeps PgBouncer as it should be: its files, its process, its figures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use portcullis_database::bouncer::config::{Entry, EntryProblem, Files, Frame, INI};
use portcullis_database::bouncer::console::{Console, Figures};
use portcullis_database::bouncer::share::shares;
use portcullis_database::pool::sizing::Sizing;
use portcullis_database::pool::target::{Kind, Target};
use portcullis_database::pool::{ConnectError, resolved};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::files::Folder;
use super::process::Process;
use super::{Bouncer, Starter};
use crate::clock::monotonic;
use crate::tenant::TenantId;

/// How long what runs in a database may go on when its tenant goes or moves.
pub const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause before it is started again, and the first.
pub const LONGEST: Duration = Duration::from_secs(30);
/// How long its start may take.
const START: Duration = Duration::from_secs(3);
const FIRST: Duration = Duration::from_millis(250);
/// How often names are resolved.
const RESOLVE: Duration = Duration::from_secs(30);
/// One that ran so long has not failed at its start.
const HEALTHY: Duration = Duration::from_secs(60);

/// What is known of a tenant's server.
struct Known {
    sealed: String,
    entry: Result<Entry, String>,
    config: Option<Box<tokio_postgres::Config>>,
    resolved: Instant,
    sizing: Sizing,
    counted: Figures,
    /// What it wants at the moment.
    wanted: usize,
}

/// Looks after PgBouncer.
pub struct Keeper {
    bouncer: Bouncer,
    folder: Folder,
    password: String,
    frame: Frame,
    known: BTreeMap<String, Known>,
    /// What stands in the files, if we have written them.
    written: Option<(Files, Vec<Entry>)>,
    console: Option<Console>,
    process: Option<(Process, Instant)>,
    pause: Duration,
    /// Not before that is it started again.
    start_at: Instant,
    counted_at: Instant,
}

impl Keeper {
    pub(super) fn new(bouncer: Bouncer, folder: Folder, password: String) -> Self {
        let options = bouncer.options();
        let frame = Frame {
            folder: folder.path.clone(),
            address: options.address,
            port: options.port,
            mode: options.mode,
            clients: options.clients,
            wait: bouncer.0.databases.options().shape.wait,
            tls: options.tls.clone(),
            server_tls: options.server_tls,
            authorities: options.authorities.clone(),
            admin: portcullis_database::bouncer::config::verifier(&password),
        };
        let now = monotonic();
        Self {
            bouncer,
            folder,
            password,
            frame,
            known: BTreeMap::new(),
            written: None,
            console: None,
            process: None,
            pause: FIRST,
            start_at: now,
            counted_at: now,
        }
    }

    /// Keeps it until `end` says true; then ends what it has started.
    pub async fn run(mut self, mut end: watch::Receiver<bool>) {
        loop {
            let problem = self.step().await.err();
            let news = self.bouncer.with(|state| {
                let news = state.problem != problem;
                state.up = self.console.is_some();
                state.process = self.process.as_ref().map(|(process, _)| process.id());
                state.problem.clone_from(&problem);
                news
            });
            match problem {
                Some(problem) if news => tracing::error!(category = "application", problem, "PgBouncer"),
                None if news => tracing::info!(category = "application", "PgBouncer is as it should be"),
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(self.bouncer.options().pause) => {}
                _ = end.wait_for(|end| *end) => break,
            }
        }
        self.console = None;
        if let Some((process, _)) = self.process.take() {
            process.stop().await;
        }
        self.bouncer.with(|state| (state.up, state.process) = (false, None));
    }

    async fn step(&mut self) -> Result<(), String> {
        self.follow().await;
        let (files, entries) = self.wanted();
        if self.written.is_none() {
            // Before it is started, or because it was started before us.
            self.folder.write(&files)?;
            self.written = Some((files.clone(), entries.clone()));
            if self.open().await.is_ok() {
                self.reload().await?;
            }
        }
        self.attend().await?;
        if self.written.as_ref().is_none_or(|(written, _)| *written != files) {
            self.change(files, entries).await?;
        }
        self.count().await
    }

    /// Who has which server.
    async fn follow(&mut self) {
        let servers: BTreeMap<String, String> = self.bouncer.0.databases.servers().into_iter().collect();
        self.known.retain(|name, _| servers.contains_key(name));
        for (name, sealed) in servers {
            let known = self.known.get(&name);
            let same = known.is_some_and(|known| known.sealed == sealed);
            if same && known.is_some_and(|known| known.resolved.elapsed() < RESOLVE) {
                continue;
            }
            let fresh = match self.known.remove(&name).filter(|_| same) {
                Some(known) => self.resolved_again(known).await,
                None => self.learned(&name, sealed).await,
            };
            self.known.insert(name, fresh);
        }
    }

    async fn learned(&self, name: &str, sealed: String) -> Known {
        let mut config = None;
        let entry = match self.target(name).await {
            Ok(found) => {
                let address = resolved(&found, self.bouncer.0.databases.rules()).await;
                let entry = address
                    .map_err(|error| error.to_string())
                    .and_then(|address| Entry::new(name, &found, address).map_err(|error| error.to_string()));
                config = Some(found);
                entry
            }
            Err(problem) => Err(problem),
        };
        if let Err(problem) = &entry {
            tracing::warn!(
                category = "application",
                tenant = name,
                problem,
                "a tenant is not reached through PgBouncer"
            );
        }
        let (sizing, counted) = (Sizing::default(), Figures::default());
        Known { sealed, entry, config, resolved: monotonic(), sizing, counted, wanted: 1 }
    }

    async fn target(&self, name: &str) -> Result<Box<tokio_postgres::Config>, String> {
        let tenant = TenantId::new(name).map_err(|error| error.to_string())?;
        let url = self.bouncer.0.keys.database_url(&tenant).await.map_err(|error| error.to_string())?;
        let url = url.ok_or("it has no database_url any more")?;
        match Target::new(&url, self.bouncer.0.databases.rules()) {
            Ok(Target::Postgres(config)) => Ok(config),
            Ok(Target::Sqlite(_)) => Err(format!("its database is a file of {}", Kind::Sqlite.as_str())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A name may lead elsewhere by now. One that cannot be resolved at the moment stays where it was; one that leads where it must
    /// not is not offered any more.
    async fn resolved_again(&self, mut known: Known) -> Known {
        known.resolved = monotonic();
        let Some(config) = &known.config else { return known };
        match (resolved(config, self.bouncer.0.databases.rules()).await, &known.entry) {
            (Ok(Some(address)), Ok(entry)) => known.entry = Ok(entry.at(address)),
            (Err(ConnectError::Target(error)), Ok(_)) => known.entry = Err(error.to_string()),
            // It is learned anew.
            (Ok(_), Err(_)) => known.sealed.clear(),
            _ => {}
        }
        known
    }

    /// The files as they should be.
    fn wanted(&self) -> (Files, Vec<Entry>) {
        let offered: Vec<(&Entry, usize)> = self
            .known
            .values()
            .filter_map(|known| known.entry.as_ref().ok().map(|entry| (entry, known.wanted)))
            .collect();
        let wanted: Vec<usize> = offered.iter().map(|(_, wanted)| *wanted).collect();
        let given = shares(&wanted, self.bouncer.options().connections);
        let sized: Vec<(Entry, usize)> = offered
            .iter()
            .zip(given)
            .filter(|(_, size)| *size > 0)
            .map(|((entry, _), size)| ((*entry).clone(), size))
            .collect();
        let sizes: BTreeMap<String, usize> =
            sized.iter().map(|(entry, size)| (entry.name.clone(), *size)).collect();
        let not_offered = self
            .known
            .iter()
            .filter(|(name, _)| !sizes.contains_key(*name))
            .map(|(name, known)| {
                let why = known.entry.as_ref().err().cloned();
                (name.clone(), why.unwrap_or_else(|| EntryProblem::NoRoom.to_string()))
            })
            .collect();
        self.bouncer.with(|state| (state.sizes, state.not_offered) = (sizes, not_offered));
        let files = self.frame.files(&sized);
        (files, sized.into_iter().map(|(entry, _)| entry).collect())
    }

    /// Sees to it that it runs and answers.
    async fn attend(&mut self) -> Result<(), String> {
        if let Some((process, since)) = &mut self.process
            && let Some(how) = process.ended()
        {
            self.pause =
                if since.elapsed() >= HEALTHY { FIRST } else { self.pause.saturating_mul(2).min(LONGEST) };
            (self.process, self.console, self.start_at) = (None, None, monotonic() + self.pause);
            self.bouncer.0.restarts.add(1);
            tracing::error!(
                category = "application",
                how,
                again_in_ms = self.pause.as_millis(),
                "PgBouncer has ended"
            );
        }
        if self.console.as_ref().is_some_and(|console| !console.is_closed()) {
            return Ok(());
        }
        let found = self.open().await;
        if let Err(problem) = found {
            let Starter::Companion(program) = &self.bouncer.options().starter else {
                return Err(format!(
                    "{problem}; start it: pgbouncer {}",
                    self.folder.path.join(INI).display()
                ));
            };
            if self.process.is_none() && monotonic() >= self.start_at {
                let started = Process::start(program, &self.folder.path.join(INI), self.folder.owner);
                let process = started.map_err(|error| {
                    self.start_at = monotonic() + LONGEST;
                    format!("PGBOUNCER: {}: {error}; name the program", program.display())
                })?;
                self.process = Some((process, monotonic()));
                return self.opened_soon().await;
            }
            return Err(problem);
        }
        Ok(())
    }

    /// Waits for one that has just been started.
    async fn opened_soon(&mut self) -> Result<(), String> {
        let started = monotonic();
        loop {
            let opened = self.open().await;
            let over = self.process.as_mut().is_none_or(|(process, _)| process.ended().is_some());
            if opened.is_ok() || over || started.elapsed() > START {
                return opened;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn open(&mut self) -> Result<(), String> {
        self.console = None;
        let opened = Console::open(&self.folder.path, self.frame.port, &self.password).await;
        self.console = Some(opened.map_err(|error| error.to_string())?);
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), String> {
        let console = self.console.as_ref().ok_or("PgBouncer's console is closed")?;
        let reloaded = console.reload().await;
        self.bouncer.0.reloads.add(1);
        reloaded.map_err(|error| {
            // What it has read is not known: written and read anew.
            (self.console, self.written) = (None, None);
            error.to_string()
        })
    }

    /// Writes the files and has them read. What runs in a database that goes or moves is given time first.
    async fn change(&mut self, files: Files, entries: Vec<Entry>) -> Result<(), String> {
        let before = self.written.take().map(|(_, entries)| entries).unwrap_or_default();
        let now: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let leaving: Vec<String> = before
            .iter()
            .filter(|entry| now.get(entry.name.as_str()).is_none_or(|now| now.moved(entry)))
            .map(|entry| entry.name.clone())
            .collect();
        let mut pausing = JoinSet::new();
        for name in &leaving {
            let (name, folder, port) = (name.clone(), self.folder.path.clone(), self.frame.port);
            let password = self.password.clone();
            pausing.spawn(async move {
                let console = Console::open(&folder, port, &password).await?;
                console.allow(&name, false).await?;
                if console.pause(&name, PAUSE).await.is_err() {
                    Console::open(&folder, port, &password).await?.kill(&name).await?;
                }
                Ok::<_, portcullis_database::bouncer::console::ConsoleError>(())
            });
        }
        while let Some(paused) = pausing.join_next().await {
            if let Ok(Err(error)) = paused {
                // It goes all the same.
                tracing::warn!(category = "application", %error, "PgBouncer did not pause a database");
            }
        }
        self.folder.write(&files)?;
        self.written = Some((files, entries));
        self.reload().await?;
        let Some(console) = &self.console else { return Ok(()) };
        for name in leaving.iter().filter(|name| self.known.contains_key(*name)) {
            // It says no when there is nothing to resume.
            let _ = console.resume(name).await;
            let _ = console.allow(name, true).await;
        }
        Ok(())
    }

    /// Takes its figures, and what each tenant wants by them.
    async fn count(&mut self) -> Result<(), String> {
        let Some(console) = &self.console else { return Err("PgBouncer's console is closed".to_owned()) };
        let report = console.report().await.map_err(|error| error.to_string());
        let report = report.inspect_err(|_| self.console = None)?;
        let elapsed = self.counted_at.elapsed();
        self.counted_at = monotonic();
        let shape = self.bouncer.0.databases.options().shape;
        for (name, known) in &mut self.known {
            let figures = report.databases.get(name).copied().unwrap_or_default();
            // Smaller than before when it was started anew.
            let since = if figures.transactions < known.counted.transactions {
                Figures::default()
            } else {
                known.counted
            };
            let count = figures.transactions.saturating_sub(since.transactions);
            let busy = figures.transaction_time.saturating_sub(since.transaction_time);
            known.sizing.counted(u32::try_from(count).unwrap_or(u32::MAX), busy);
            known.sizing.step(elapsed);
            known.counted = figures;
            let present = usize::try_from(figures.servers_active.saturating_add(figures.clients_waiting));
            known.wanted =
                known.sizing.kept(shape.most()).max(present.unwrap_or(usize::MAX)).clamp(1, shape.most());
        }
        self.bouncer.with(|state| state.report = report);
        Ok(())
    }
}
