//! A stack under test: `make run` with its own ports and folder, and with what a failed test should show.

use std::{
    cell::RefCell,
    fs,
    io::{Read, Seek, SeekFrom},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Once,
};

use xtask::{
    layout::Layout,
    stack::{Options, Piece, Stack},
};

use super::client::{Request, Response};

thread_local! {
    /// Logs of the stages that this thread's test uses: shown when it fails.
    static LOGS: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// A running stack. What it started ends with it, or at the latest with this process.
pub struct Stage {
    /// The stack.
    pub stack: Stack,
}

impl Stage {
    /// Starts the demonstration with changes, in a fresh folder of that name.
    pub fn start(name: &str, change: impl FnOnce(&mut Options)) -> Self {
        Self::try_start(name, change).unwrap_or_else(|error| panic!("{name}: {error:#}"))
    }

    /// As [`Stage::start`], when it may fail.
    pub fn try_start(name: &str, change: impl FnOnce(&mut Options)) -> anyhow::Result<Self> {
        let folder = folder(name);
        // There is none before the first run.
        drop(fs::remove_dir_all(&folder));
        let mut options = Options::for_tests(&folder);
        change(&mut options);
        let logs = [options.log(Piece::Envoy), options.log(Piece::Companion)];
        show_when_failing(&logs);
        Ok(Self { stack: Stack::start(options)? })
    }

    /// Has a test of this thread show the logs of a stage that another one has started.
    pub fn watched(&self) -> &Self {
        show_when_failing(&[self.stack.log(Piece::Envoy), self.stack.log(Piece::Companion)]);
        self
    }

    /// Envoy's public listener.
    pub fn envoy(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.stack.options().ports.envoy))
    }

    /// Sends a request to the public listener, over a connection of its own.
    pub fn send(&self, request: &Request) -> Response {
        request.send(self.envoy())
    }

    /// Envoy's log.
    pub fn envoy_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.stack.log(Piece::Envoy)).unwrap_or_default()).into_owned()
    }
}

/// Where a stage keeps its state. It stays after a run, for whoever wants to look.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e").join(name)
}

/// The checkout.
pub fn layout() -> Layout {
    Layout::of_this_checkout()
}

fn show_when_failing(logs: &[PathBuf]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            LOGS.with_borrow(|logs| {
                for log in logs {
                    eprintln!("---- the end of {}:\n{}", log.display(), tail(log));
                }
            });
        }));
    });
    LOGS.with_borrow_mut(|known| {
        for log in logs {
            if !known.contains(log) {
                known.push(log.clone());
            }
        }
    });
}

fn tail(log: &Path) -> String {
    const BYTES: u64 = 4096;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}
