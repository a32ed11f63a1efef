//! The log of a companion that runs: on standard error and in its file, line by line the same.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::send;

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_json_and_those_of_a_request_carry_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut companion = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["serve", "--demonstration", "--port", "0", "--ingest-port", "0", "--data-dir"])
        .arg(folder.path())
        .env_clear()
        .env("ENVIRONMENT", "development")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(companion.stderr.take().unwrap()).lines();
    let mut said: Vec<String> = Vec::new();
    let mut until = |fits: &dyn Fn(&Value) -> bool| loop {
        let line = lines.next().expect("the companion ended").unwrap();
        let read: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        said.push(line);
        if fits(&read) {
            break read;
        }
    };
    let ready = until(&|line| line["message"] == "ready");
    let address = ready["api"].as_str().unwrap().parse().unwrap();
    let request = "GET /api/\u{9b}31m%1b%5B2J HTTP/1.1\r\nHost: t\r\nX-Request-Id: request-of-the-log\r\n\
                   Authorization: Bearer wrong\r\nConnection: close\r\n\r\n";
    let answer = send(address, request.as_bytes()).await;
    assert!(answer.status >= 400);
    let request = request.replace('\u{9b}', "");
    assert_eq!(send(address, request.as_bytes()).await.status, 401);
    let answered = until(&|line| line["message"] == "answered" && line["status"] == 401);
    assert_eq!((&answered["category"], &answered["level"]), (&"security".into(), &"WARN".into()));
    assert_eq!(answered["correlation_id"], "request-of-the-log");
    // What was logged on the way, without knowing of the request, carries the ID too.
    let refused = said.iter().find(|line| line.contains("token refused")).unwrap();
    let refused: Value = serde_json::from_str(refused).unwrap();
    assert_eq!(refused["correlation_id"], "request-of-the-log");

    let file = std::fs::read_to_string(folder.path().join("logs").join("portcullis.log")).unwrap();
    let kept: Vec<&str> = file.lines().collect();
    assert_eq!(kept[..said.len()], said, "the file has the same lines");
    assert!(!file.chars().any(|char| char.is_control() && char != '\n'));
    companion.kill().unwrap();
    companion.wait().unwrap();
}
