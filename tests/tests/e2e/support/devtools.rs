//! A browser that a test talks to: Chrome's debugging protocol over a pipe, a JSON text with a NUL behind it each way
//! (`--remote-debugging-pipe`).

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use xtask::{browser::Browser, clock::Deadline};

use super::stage::layout;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser that ends with the test.
pub struct Devtools {
    browser: Child,
    asks: ChildStdin,
    answers: Receiver<Value>,
    asked: u64,
}

impl Devtools {
    /// Starts one with a profile folder of its own.
    pub fn start(profile: &Path) -> Self {
        let browser = Browser::installed(&layout()).unwrap().command(profile).unwrap();
        // It reads from descriptor 3 and writes to 4; reports leave at once instead of within a minute.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null"]);
        command.arg(browser.get_program()).args(browser.get_args());
        command.args(["--remote-debugging-pipe", "--short-reporting-delay", "about:blank"]);
        command.envs(browser.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut browser = command.spawn().unwrap();
        let (asks, said) = (browser.stdin.take().unwrap(), browser.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            for message in BufReader::new(said).split(0).map_while(Result::ok) {
                if sender.send(serde_json::from_slice(&message).unwrap_or_default()).is_err() {
                    return;
                }
            }
        });
        Self { browser, asks, answers, asked: 0 }
    }

    /// Calls a method of the protocol, and answers its result.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.asked += 1;
        let mut text = json!({"id": self.asked, "method": method, "params": parameters}).to_string();
        text.push('\0');
        self.asks.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("{method}: {error}"));
        let deadline = Deadline::after(PATIENCE);
        loop {
            let said = self.answers.recv_timeout(deadline.remaining());
            let mut said = said.unwrap_or_else(|error| panic!("{method} is not answered: {error}"));
            if said["id"] == self.asked {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].take();
            }
        }
    }
}

impl Drop for Devtools {
    fn drop(&mut self) {
        drop(self.browser.kill());
        drop(self.browser.wait());
    }
}
