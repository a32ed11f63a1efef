//! `make run`, `make up`, `make down`, `make token`, `make check`.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    http,
    process::Lifetime,
    stack::{Claim, ModuleConfig, Options, Piece, Stack, Upstream},
};

/// How long Envoy may finish what is under way, and the module deliver its last records.
const DRAIN: Duration = Duration::from_secs(3);
/// What a shell reports for a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Runs in the foreground until Ctrl-C, or until something dies.
///
/// # Errors
/// What kept it from starting, or which piece died.
pub fn run(options: Options) -> Result<()> {
    // Should make be killed without passing it on, this ends in order all the same.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    let _claim = Claim::take(&options.data_dir, "run", Duration::ZERO)?;
    if Stack::attach(options.clone())?.is_some() {
        bail!(
            "already up in {}: `make down` stops it, or choose another folder with DATA_DIR=",
            options.data_dir.display()
        );
    }
    let started = Arc::new(AtomicBool::new(false));
    let ending = end_on_signal(&started)?;
    check_before_start(&options)?;
    println!("starting companion, upstream and Envoy ...");
    let mut stack = Stack::start(options)?;
    started.store(true, Ordering::SeqCst);
    say(&format!("{}\nCtrl-C stops everything.\n", greeting(&stack)?))?;
    while !ending.load(Ordering::SeqCst) {
        if let Some((piece, how)) = stack.dead() {
            let log = stack.log(piece);
            stack.stop_all(Duration::from_secs(1))?;
            bail!("{} {how}, so everything was stopped; its log is {}", piece.name(), log.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
    println!("\nstopping ...");
    stack.stop_all(DRAIN)?;
    println!("stopped");
    Ok(())
}

/// The flag that a signal sets. During the start a signal ends this process at once, and with it all that it started.
fn end_on_signal(started: &Arc<AtomicBool>) -> Result<Arc<AtomicBool>> {
    let ending = Arc::new(AtomicBool::new(false));
    let (flag, started) = (Arc::clone(&ending), Arc::clone(started));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            // The second one means: at once.
            if !started.load(Ordering::SeqCst) || flag.swap(true, Ordering::SeqCst) {
                std::process::exit(INTERRUPTED);
            }
        }
    });
    Ok(ending)
}

/// Starts in the background and returns when all of it answers. Does nothing when it is up already.
///
/// # Errors
/// What kept it from starting; nothing of it is left running then.
pub fn up(mut options: Options) -> Result<()> {
    options.lifetime = Lifetime::Detached;
    let _claim = Claim::take(&options.data_dir, "up", Duration::from_secs(2))?;
    if let Some(mut stack) = Stack::attach(options.clone())? {
        let missing: Vec<&str> = Piece::ALL
            .into_iter()
            .filter(|piece| stack.options().starts(*piece) && !stack.runs(*piece))
            .map(Piece::name)
            .collect();
        if missing.is_empty() {
            say(&format!(
                "already up in {}: nothing was changed (`make down` first, to start it with other variables)\n{}",
                options.data_dir.display(),
                greeting(&stack)?
            ))?;
            return Ok(());
        }
        println!("{} died since the last `make up`: starting anew", missing.join(" and "));
        stack.stop_all(Duration::from_secs(1))?;
    }
    stop_if_interrupted(options.clone())?;
    check_before_start(&options)?;
    let stack = Stack::start(options)?;
    say(&format!("{}\n`make down` stops everything.\n", greeting(&stack)?))
}

/// Ctrl-C while it comes up takes back what was started.
fn stop_if_interrupted(options: Options) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            if let Ok(Some(mut stack)) = Stack::attach(options) {
                // There is nobody left to tell.
                drop(stack.stop_all(Duration::ZERO));
            }
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(())
}

/// Stops what `up` started, and waits until it has ended.
///
/// # Errors
/// When the folder is in use by `make run`, or something cannot be stopped.
pub fn down(options: Options) -> Result<()> {
    if !options.data_dir.exists() {
        println!("nothing is up: there is no {}", options.data_dir.display());
        return Ok(());
    }
    let _claim = Claim::take(&options.data_dir, "down", Duration::from_secs(2))?;
    let folder = options.data_dir.display().to_string();
    match Stack::attach(options)? {
        None => println!("nothing is up in {folder}"),
        Some(mut stack) => {
            stack.stop_all(DRAIN)?;
            println!("stopped");
        }
    }
    Ok(())
}

/// What a stack leaves in its folder. Nothing else is ever removed, whatever DATA_DIR names.
const STATE: [&str; 11] = [
    "secret-key",
    "encryption-key",
    "ingest-token",
    "companion.db",
    "companion.db-wal",
    "companion.db-shm",
    "logs",
    "envoy.json",
    "stack.json",
    "stack.json.new",
    "lock",
];

/// Forgets all state: database, secrets, logs.
///
/// # Errors
/// When something still runs there, or cannot be removed.
pub fn forget(options: &Options) -> Result<()> {
    let folder = &options.data_dir;
    if !folder.join("lock").exists() {
        println!("there is no state in {}", folder.display());
        return Ok(());
    }
    let _claim = Claim::take(folder, "clean-run", Duration::from_secs(2))?;
    if Stack::attach(options.clone())?.is_some() {
        bail!("it is up in {}: `make down` first", folder.display());
    }
    for name in STATE {
        let path = folder.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    // What is not ours keeps the folder.
    drop(fs::remove_dir(folder));
    println!("forgotten: {}", folder.display());
    Ok(())
}

/// Prints a token, of all tenants or of one.
///
/// # Errors
/// When the companion is not built, or the tenant's name is malformed.
pub fn token(options: Options, tenant: &str) -> Result<()> {
    let tenant = Some(tenant).filter(|tenant| !tenant.is_empty());
    say(&format!("{}\n", Stack::token_in(&options, tenant)?))
}

/// Checks the module's configuration.
///
/// # Errors
/// When it is not valid; every problem was printed.
pub fn check(options: &Options) -> Result<()> {
    let file = config_file(options)?;
    let status = Command::new(options.layout.companion()?)
        .arg("check")
        .arg(&file)
        .stdin(Stdio::null())
        .status()
        .context("cannot start the companion's program")?;
    if !status.success() {
        bail!("{} is not a valid module configuration", file.display());
    }
    Ok(())
}

fn config_file(options: &Options) -> Result<std::path::PathBuf> {
    match &options.config {
        ModuleConfig::Demonstration => Ok(options.layout.demonstration_config()),
        ModuleConfig::File(path) => Ok(path.clone()),
        ModuleConfig::Text(_) => bail!("a configuration without a file is Envoy's to check"),
    }
}

/// Everything that can be known to fail is found before anything starts.
fn check_before_start(options: &Options) -> Result<()> {
    options.layout.envoy()?;
    options.layout.module()?;
    options.check_ports()?;
    let checked = Command::new(options.layout.companion()?)
        .arg("check")
        .arg(config_file(options)?)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the companion's program")?;
    if !checked.status.success() {
        // What it says is for people: all of it, as it is.
        std::io::stderr().write_all(&checked.stdout)?;
        std::io::stderr().write_all(&checked.stderr)?;
        bail!(
            "CONFIG={}: not a valid module configuration, so nothing was started",
            config_file(options)?.display()
        );
    }
    if let Upstream::At(address) = &options.upstream {
        let reached = std::net::ToSocketAddrs::to_socket_addrs(&(address.host.as_str(), address.port))
            .is_ok_and(|mut all| all.any(|address| http::accepts(address, Duration::from_secs(1))));
        if !reached {
            println!("warning: UPSTREAM={address} does not answer yet; until it does, clients get 503");
        }
    }
    Ok(())
}

/// Writes a text in one piece.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Where everything is, and what to try.
fn greeting(stack: &Stack) -> Result<String> {
    let token = stack.token(None)?;
    let options = stack.options();
    let mut text = format!(
        "
Portcullis is ready.
  through Envoy   {}
  companion       {}
  upstream        http://{}
  administration  http://{} (Envoy's own)
  logs            {}
  token           {token}
",
        stack.url("/"),
        stack.companion_url("/"),
        stack.upstream(),
        stack.admin(),
        options.logs().display(),
    );
    if options.config == ModuleConfig::Demonstration {
        text.push_str(&four_lines(stack, &token));
    }
    Ok(text)
}

fn four_lines(stack: &Stack, token: &str) -> String {
    format!(
        r#"
Try, in this order:
1. An ordinary request: 200 with the security headers; `Server` and `X-Powered-By` are gone.
   curl -i -H 'x-tenant-id: acme' -H 'x-user-id: alice' {page}
2. An SQL injection in the query: 403, told as application/problem+json.
   curl -i -H 'x-tenant-id: acme' -H 'x-user-id: alice' "{attack}"
3. Six logins within a minute: five reach the application (401), the sixth is 429 and says when to try again.
   curl -s -o /dev/null -w '%{{http_code}} %header{{retry-after}}\n' -H 'x-tenant-id: acme' -H 'x-user-id: alice' -d 'password=guess' '{login}'
4. What Portcullis decided, from its audit trail.
   curl -s -H 'Authorization: Bearer {token}' {events}
"#,
        page = stack.url("/"),
        attack = stack.url("/search?q=1'%20OR%20'1'='1"),
        login = stack.url("/login?attempt=[1-6]"),
        events = stack.companion_url("/api/security/events/acme"),
    )
}
