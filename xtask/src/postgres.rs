//! A PostgreSQL server of one's own, for tests and measurements: in a folder, on a Unix socket, gone with its owner.
//!
//! It refuses to run as root; started by root it runs as `nobody`.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{clock::Deadline, layout::Layout};

/// `nobody` on Debian and most others.
const NOBODY: &str = "65534";
/// The role that may do everything.
const ROLE: &str = "portcullis";
const PATIENCE: Duration = Duration::from_secs(30);

/// The folder of `initdb` and `postgres`: what `POSTGRES_BIN` names, what `make test` installed, or the system's newest.
///
/// # Errors
/// When there is none; says how to get it.
pub fn programs(layout: &Layout) -> Result<PathBuf> {
    let holds = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    if let Some(own) = std::env::var_os("POSTGRES_BIN").filter(|value| !value.is_empty()) {
        let own = PathBuf::from(own);
        if holds(&own) {
            return Ok(own);
        }
        bail!(
            "POSTGRES_BIN={}: no initdb and postgres in it; name their folder, or leave it out",
            own.display()
        );
    }
    let installed = layout.tools().join("debian/usr/lib/postgresql");
    // Of two of one version the last is taken: ours, which has the extensions.
    let mut found: Vec<PathBuf> = [PathBuf::from("/usr/lib/postgresql"), installed]
        .into_iter()
        .filter_map(|versions| fs::read_dir(versions).ok())
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(holds)
        .collect();
    found.sort_by_key(|folder| {
        let version = folder.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|name| name.parse::<u32>().ok())
    });
    let searched = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).find(holds);
    found.pop().or(searched).context(
        "PostgreSQL is not installed: run `make test`, which does it (or: sudo apt-get install postgresql; or name the \
         folder of its programs with POSTGRES_BIN)",
    )
}

/// The version of the programs in a folder as Debian names it (`15`), and whether they have an extension.
///
/// `None` when the folder is not as Debian has it.
#[must_use]
pub fn extension(programs: &Path, name: &str) -> Option<(String, bool)> {
    let version = programs.parent()?.file_name()?.to_str()?.to_owned();
    let usr = programs.ancestors().nth(4)?;
    let control =
        usr.join("share/postgresql").join(&version).join("extension").join(format!("{name}.control"));
    version.parse::<u32>().ok()?;
    Some((version, control.is_file()))
}

/// A running server. It ends when this is dropped, or when the process that started it ends in any way.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    programs: PathBuf,
    root: bool,
    watch: Child,
}

/// Whether what is written must survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As in production.
    Full,
    /// For tests: no waiting for a disk.
    None,
}

impl Server {
    /// Makes a cluster in a new folder below `parent` and starts it. `parent` must be one that other users may enter.
    ///
    /// # Errors
    /// When there is no PostgreSQL, or it does not start within half a minute.
    pub fn start(layout: &Layout, parent: &Path, durability: Durability) -> Result<Self> {
        Self::start_with(layout, parent, durability, &[])
    }

    /// The same with settings of its own, each as `name=value`.
    ///
    /// # Errors
    /// As [`Server::start`], or when the server does not take a setting.
    pub fn start_with(
        layout: &Layout,
        parent: &Path,
        durability: Durability,
        settings: &[&str],
    ) -> Result<Self> {
        let folder = parent.join(format!("portcullis-pg-{}-{}", std::process::id(), unique()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let root = fs::metadata(&folder)?.uid() == 0;
        let mut programs = programs(layout)?;
        if root {
            if programs.starts_with(layout.tools()) {
                // `nobody` may not be able to enter the checkout.
                let copy = folder.join("debian");
                run(Command::new("cp").arg("-a").arg(layout.tools().join("debian")).arg(&copy))?;
                programs = copy.join(programs.strip_prefix(layout.tools().join("debian"))?);
            }
            run(Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(&folder))?;
        }
        let data = folder.join("data");
        let mut make = unprivileged(root, &programs);
        make.arg(programs.join("initdb")).arg("-D").arg(&data);
        make.args(["-U", ROLE, "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8"]);
        run(make.current_dir(&folder).stdout(Stdio::null()))?;
        Self::launch(folder, programs, root, durability, settings)
    }

    /// Starts another server that follows this one and only reads: a standby. It must not outlive this one.
    ///
    /// # Errors
    /// When the copy cannot be made, or it does not start within half a minute.
    pub fn standby(&self, parent: &Path) -> Result<Self> {
        let folder = parent.join(format!("portcullis-pg-{}-{}", std::process::id(), unique()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        if self.root {
            run(Command::new("chown").arg(format!("{NOBODY}:{NOBODY}")).arg(&folder))?;
        }
        let mut copy = unprivileged(self.root, &self.programs);
        copy.arg(self.programs.join("pg_basebackup")).arg("-h").arg(&self.socket);
        copy.args(["-U", ROLE, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"])
            .arg(folder.join("data"));
        run(copy.current_dir(&folder).stdout(Stdio::null()))?;
        Self::launch(folder, self.programs.clone(), self.root, Durability::None, &[])
    }

    /// Starts the server of a folder.
    fn launch(
        folder: PathBuf,
        programs: PathBuf,
        root: bool,
        durability: Durability,
        settings: &[&str],
    ) -> Result<Self> {
        let data = folder.join("data");
        // Ends with the pipe to this process, however this process ends; then nothing is left.
        // Its process is another one after a restart, and no child of the shell then.
        let script = "cd \"$1\" && shift; \"$@\" >log 2>&1 & cat >/dev/null; server=$(head -n 1 data/postmaster.pid) && kill -QUIT $server; \
                      wait; for try in $(seq 100); do kill -0 $server || break; sleep 0.05; done; rm -rf \"$PWD\"";
        let mut watch = unprivileged(root, &programs);
        watch
            .args(["sh", "-c", script, "sh"])
            .arg(&folder)
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(&data);
        for setting in
            ["listen_addresses=", "max_connections=300", "jit=off", "max_locks_per_transaction=256"]
        {
            watch.args(["-c", setting]);
        }
        if extension(&programs, "pg_stat_statements").is_some_and(|(_, there)| there) {
            watch.args(["-c", "shared_preload_libraries=pg_stat_statements"]);
        }
        for setting in settings {
            watch.args(["-c", setting]);
        }
        watch.arg("-c").arg(format!("unix_socket_directories={}", folder.display()));
        if durability == Durability::None {
            watch.args(["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]);
        }
        let watch = watch
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start PostgreSQL")?;
        let server = Self { socket: folder.clone(), programs, root, watch };
        let ready = || {
            std::os::unix::net::UnixStream::connect(folder.join(".s.PGSQL.5432")).ok()?;
            server.execute("SELECT 1").ok()
        };
        if Deadline::after(PATIENCE).poll(ready).is_none() {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            bail!("PostgreSQL does not answer: {log}");
        }
        Ok(server)
    }

    /// Ends it without a word to anybody, as after a loss of power, and starts it again; returns when it takes connections.
    ///
    /// # Errors
    /// It does not start again within a minute.
    pub fn restart(&self) -> Result<()> {
        let mut control = unprivileged(self.root, &self.programs);
        control.arg(self.programs.join("pg_ctl"));
        control
            .args(["restart", "-m", "immediate", "-w", "-t", "60", "-l", "log", "-D"])
            .arg(self.socket.join("data"));
        run(control.current_dir(&self.socket).stdin(Stdio::null()).stdout(Stdio::null()))
    }

    /// The number of its first process; those of its sessions are children of that.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        let file = fs::read_to_string(self.socket.join("data/postmaster.pid")).ok()?;
        file.lines().next()?.parse().ok()
    }

    /// One of PostgreSQL's own programs that is a client, as `pgbench`, told of this server.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.env("PGHOST", &self.socket).env("PGUSER", ROLE);
        libraries(&mut command, &self.programs);
        command
    }

    /// The address of a database, as `DATABASE_URL` has it.
    pub fn url(&self, database: &str) -> String {
        let socket = self.socket.display().to_string().replace('/', "%2F");
        format!("postgres://{ROLE}@{socket}/{database}")
    }

    /// Makes an empty database; tells its address.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create(&self, _: &Layout, database: &str) -> Result<String> {
        self.execute(&format!("CREATE DATABASE {database}"))?;
        Ok(self.url(database))
    }

    fn execute(&self, statement: &str) -> Result<()> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.arg("-h").arg(&self.socket).args(["-U", ROLE, "-d", "postgres", "-qc", statement]);
        run(libraries(&mut psql, &self.programs).stdout(Stdio::null()).stderr(Stdio::null()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closing the pipe is what ends it.
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

fn unprivileged(root: bool, programs: &Path) -> Command {
    let mut command = match root {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]);
            command
        }
        false => Command::new("env"),
    };
    libraries(&mut command, programs);
    command
}

/// Packages that were unpacked rather than installed bring their libraries along.
fn libraries<'a>(command: &'a mut Command, programs: &Path) -> &'a mut Command {
    let Some(usr) =
        programs.ancestors().nth(4).filter(|usr| usr.parent().is_some_and(|top| top.ends_with("debian")))
    else {
        return command;
    };
    let folder = usr.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    command.env("LD_LIBRARY_PATH", folder)
}

fn run(command: &mut Command) -> Result<()> {
    let name = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} {}", crate::process::describe(status));
    }
    Ok(())
}

/// Several servers of one process have folders of their own.
fn unique() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_takes_databases_and_leaves_nothing() {
        let layout = Layout::of_this_checkout();
        let parent = std::env::temp_dir();
        let server = Server::start(&layout, &parent, Durability::None).unwrap();
        let folder = server.socket.clone();
        assert!(server.create(&layout, "one").unwrap().ends_with("/one"));
        assert!(server.create(&layout, "one").is_err(), "it is there already");
        drop(server);
        assert!(!folder.exists());
    }
}
