//! Stands in for the companion's ingest listener: takes what the module delivers and keeps it for the test to look at.

use std::{
    io::{self, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use portcullis_host_tests::run::is_intent;
use serde_json::{Value, json};

use super::message::{Message, Unframed};

/// How long a record may take: a tick, a delivery, and a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running capture; ends with the process.
pub struct Capture {
    port: u16,
    state: Arc<(Mutex<Vec<Value>>, Condvar)>,
}

impl Capture {
    /// Listens on a free port of the loopback.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<(Mutex<Vec<Value>>, Condvar)>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A connection that breaks is the proxy's affair.
                thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { port, state }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The records with a correlation ID, as soon as there are so many of them; what has come when the time is over.
    pub fn wait_for(&self, id: &str, count: usize) -> Vec<Value> {
        let (state, arrived) = &*self.state;
        let of_id = |records: &[Value]| -> Vec<Value> {
            let of_id = records.iter().filter(|record| record["metadata"]["correlation_uid"] == id);
            of_id.filter(|record| !is_intent(record)).cloned().collect()
        };
        let guard = state.lock().unwrap();
        let (guard, _) =
            arrived.wait_timeout_while(guard, PATIENCE, |records| of_id(records).len() < count).unwrap();
        of_id(&guard)
    }

    /// The intents with a correlation ID: all of them are here when the request has been answered.
    pub fn intents(&self, id: &str) -> Vec<Value> {
        let records = self.state.0.lock().unwrap();
        let of_id = records.iter().filter(|record| record["metadata"]["correlation_uid"] == id);
        of_id.filter(|record| is_intent(record)).cloned().collect()
    }

    /// The one record with a correlation ID.
    pub fn record(&self, id: &str) -> Value {
        let mut found = self.wait_for(id, 1);
        assert_eq!(found.len(), 1, "records of {id}");
        found.remove(0)
    }
}

fn serve(mut stream: TcpStream, state: &(Mutex<Vec<Value>>, Condvar)) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Message::read(&mut reader, Unframed::Empty)? {
        let lines: Vec<Value> = request
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line)
                    .unwrap_or_else(|_| json!({"not JSON": String::from_utf8_lossy(line)}))
            })
            .collect();
        let receipt =
            json!({"stored": lines.len(), "duplicates": 0, "rejected": 0, "errors": []}).to_string();
        state.0.lock().unwrap().extend(lines);
        state.1.notify_all();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            receipt.len()
        );
        stream.write_all((head + &receipt).as_bytes())?;
    }
    Ok(())
}
