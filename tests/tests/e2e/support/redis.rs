//! A Redis of one test's own.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use xtask::{
    clock::Deadline,
    ports,
    process::{Lifetime, Process},
};

use super::stage::layout;

const PATIENCE: Duration = Duration::from_secs(20);

/// A Redis that syncs every write; ends with the process.
pub struct Redis {
    process: Process,
    port: u16,
    folder: PathBuf,
}

impl Redis {
    /// Starts one with its data in a fresh folder.
    pub fn start(folder: &Path) -> Self {
        // There is none before the first run.
        drop(std::fs::remove_dir_all(folder));
        std::fs::create_dir_all(folder).unwrap();
        let port = ports::free().unwrap();
        let mut redis = Self { process: spawn(port, folder), port, folder: folder.to_owned() };
        redis.wait_ready();
        redis
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    /// Starts it again with what it had.
    pub fn again(&mut self) {
        self.process = spawn(self.port, &self.folder);
        self.wait_ready();
    }

    /// The text under a key; `None` when there is none.
    pub fn text(&self, key: &str) -> Option<String> {
        let answer = self.exchange(&["GET", key])?;
        let (size, rest) = answer.strip_prefix('$')?.split_once("\r\n")?;
        rest.get(..size.parse().ok()?).map(str::to_owned)
    }

    fn wait_ready(&mut self) {
        let ready = Deadline::after(PATIENCE).poll(|| {
            if let Some(how) = self.process.ended() {
                panic!("Redis {how}");
            }
            (self.exchange(&["PING"])? == "+PONG\r\n").then_some(())
        });
        assert!(ready.is_some(), "Redis does not answer");
    }

    /// One command, one short answer; `None` when there is none.
    fn exchange(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(command.as_bytes()).ok()?;
        // It ends what it sends when it has heard the end.
        stream.write_all(b"*1\r\n$4\r\nQUIT\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.strip_suffix("+OK\r\n")?.to_owned())
    }
}

fn spawn(port: u16, folder: &Path) -> Process {
    let tools = layout().tools().join("debian/usr");
    let own = tools.join("bin/redis-server");
    let binary = std::env::var_os("REDIS_SERVER").map_or(own, PathBuf::from);
    assert!(binary.exists(), "{} is missing: `make test` installs it", binary.display());
    let mut command = Command::new(binary);
    command
        .env("LD_LIBRARY_PATH", tools.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH)))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Process::start(command, Lifetime::Ours).unwrap()
}
