//! A real Envoy with the built module, as `make run` starts it, without limits of rates.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use portcullis_replay::{Request, without};
use serde_json::Value;
use xtask::stack::{ModuleConfig, Options, Piece, Stack, Upstream};

use super::{
    Judge, Outcome,
    upstream::{self, MARK},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a request whose end Envoy may wait for in vain.
const ODD_PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer that is read.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// A running stack and the folder of its state; both are gone when it is dropped.
pub struct Proxy {
    stack: Stack,
    folder: PathBuf,
}

impl Proxy {
    /// Starts companion, Envoy and an application that marks what reaches it.
    ///
    /// # Errors
    /// When something is not built or does not start.
    pub fn start(configuration: &[u8]) -> Result<Self> {
        let configuration =
            String::from_utf8(without(configuration, &["rate_limit"])).context("CONFIG is not UTF-8")?;
        let folder = std::env::temp_dir().join(format!("portcullis-corpus-{}", std::process::id()));
        let mut options = Options::for_tests(&folder);
        options.config = ModuleConfig::Text(configuration);
        options.upstream = Upstream::At(format!("127.0.0.1:{}", upstream::start()?).parse()?);
        options.pieces = vec![Piece::Companion, Piece::Envoy];
        Ok(Self { stack: Stack::start(options)?, folder })
    }

    /// Makes judges that send requests to it, each over a connection of its own.
    pub fn judge(&self) -> impl Fn() -> Result<Box<dyn Judge>> + Sync + use<> {
        let to = self.stack.envoy();
        move || Ok(Box::new(Sender { to, kept: None }))
    }

    /// Its folder, with the logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // What is left ends with this process, and the folder is the system's to clean.
        drop(self.stack.stop_all(Duration::ZERO));
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Sends one request after the other.
struct Sender {
    to: SocketAddr,
    kept: Option<TcpStream>,
}

impl Judge for Sender {
    fn judge(&mut self, request: &Request) -> Outcome {
        let bytes = request.to_wire();
        let only_head = request.method == b"HEAD";
        if !request.is_plainly_framed() {
            // What another request would be taken for a part of does not share a connection.
            let answer =
                connect(self.to, ODD_PATIENCE).and_then(|mut own| exchange(&mut own, &bytes, only_head));
            return answer.map_or(Outcome::Unanswered, |answer| answer.outcome());
        }
        // Envoy may close a connection just when it is used again: once more, over a new one.
        if let Some(mut kept) = self.kept.take()
            && let Ok(answer) = exchange(&mut kept, &bytes, only_head)
        {
            return self.settle(kept, &answer);
        }
        let Ok(mut fresh) = connect(self.to, PATIENCE) else { return Outcome::Unanswered };
        match exchange(&mut fresh, &bytes, only_head) {
            Ok(answer) => self.settle(fresh, &answer),
            Err(_) => Outcome::Unanswered,
        }
    }
}

impl Sender {
    fn settle(&mut self, connection: TcpStream, answer: &Answer) -> Outcome {
        if !answer.closes {
            self.kept = Some(connection);
        }
        answer.outcome()
    }
}

fn connect(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    Ok(connection)
}

/// An answer, as far as it is looked at.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    marked: bool,
    reason: Option<String>,
    closes: bool,
}

impl Answer {
    fn outcome(&self) -> Outcome {
        match &self.reason {
            _ if self.marked => Outcome::Passed,
            Some(reason) => Outcome::Blocked(reason.clone()),
            None => Outcome::Proxy(self.status),
        }
    }
}

fn exchange(connection: &mut TcpStream, request: &[u8], only_head: bool) -> io::Result<Answer> {
    // A refusal may come, and the connection close, before all of a large request is written.
    let sent = connection.write_all(request);
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        if let Some(answer) = answer(&bytes, only_head, false) {
            return Ok(Answer { closes: answer.closes || sent.is_err(), ..answer });
        }
        let count = connection.read(&mut piece)?;
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        if count == 0 || bytes.len() > ANSWER_BYTES {
            let broken = io::Error::from(io::ErrorKind::UnexpectedEof);
            return answer(&bytes, only_head, true).ok_or(broken);
        }
    }
}

/// The first final answer in the bytes; `None` while it is not whole. `ended`: nothing more will come.
fn answer(mut bytes: &[u8], only_head: bool, ended: bool) -> Option<Answer> {
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = (bytes.get(..end)?, bytes.get(end.saturating_add(4)..)?);
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        if (100..200).contains(&status) && status != 101 {
            bytes = body;
            continue;
        }
        let headers: Vec<(String, &str)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .collect();
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
        let length = header("content-length").and_then(|value| value.parse::<usize>().ok());
        let body = match length {
            _ if only_head || matches!(status, 204 | 304) => b"".to_vec(),
            Some(length) => body.get(..length).or(ended.then_some(body))?.to_vec(),
            None if header("transfer-encoding").is_some() => portcullis_replay::http::unchunk(body)?,
            None if ended => body.to_vec(),
            None => return None,
        };
        let ours = header("content-type").is_some_and(|kind| kind.starts_with("application/problem+json"));
        let reason = |body: &[u8]| {
            let body: Value = serde_json::from_slice(body).ok()?;
            body.get("reason")?.as_str().map(ToOwned::to_owned)
        };
        // An answer to HEAD has no body to tell the reason; its type is ours all the same.
        let reason = ours.then(|| reason(&body).unwrap_or_else(|| format!("status {status}")));
        let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        return Some(Answer {
            status,
            marked: header(MARK).is_some(),
            reason,
            closes: closes
                || ended
                || length.is_none() && !only_head && header("transfer-encoding").is_none(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_who_gave_them() {
        let of = |text: &str| answer(text.as_bytes(), false, false).map(|answer| answer.outcome());
        let marked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 x\r\nX-Corpus-Application: 1\r\ncontent-length: 1\r\n\r\nx";
        assert_eq!(of(marked), Some(Outcome::Passed));
        let body = "{\"reason\": \"xss\"}";
        let ours = format!(
            "HTTP/1.1 403 x\r\ncontent-type: application/problem+json\r\ncontent-length: 17\r\n\r\n{body}"
        );
        assert_eq!(of(&ours), Some(Outcome::Blocked("xss".to_owned())));
        assert_eq!(of(ours.get(..ours.len() - 1).unwrap()), None);
        assert_eq!(
            of("HTTP/1.1 400 x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            Some(Outcome::Proxy(400))
        );
        assert_eq!(of("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"), None);
        let head = answer(
            b"HTTP/1.1 403 x\r\ncontent-type: application/problem+json\r\ncontent-length: 17\r\n\r\n",
            true,
            false,
        );
        assert_eq!(head.unwrap().outcome(), Outcome::Blocked("status 403".to_owned()));
        assert!(answer(b"HTTP/1.1 400 x\r\n\r\nbad", false, true).unwrap().closes);
    }
}
