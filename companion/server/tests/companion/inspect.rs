//! `portcullis inspect` as an operator uses it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const ATTACK: &str = "GET /search?q=1%27%20or%201=1%20--%20 HTTP/1.1\r\nHost: shop.test\r\n\r\n";

fn inspect(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("inspect")
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

#[test]
fn a_raw_request_is_explained() {
    let folder =
        with(&[("bad.http", ATTACK), ("good.http", "GET /search?q=tea HTTP/1.1\r\nHost: shop.test\r\n\r\n")]);
    let bad = inspect(folder.path(), &["--file", "bad.http"]);
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad.stderr));
    let said = text(&bad.stdout);
    for part in [
        "bad.http: GET /search\n",
        "would be refused: 403 sql-injection",
        "policy      sanitize",
        "place       query",
        "name        q\n",
    ] {
        assert!(said.contains(part), "{part} not in {said}");
    }
    assert!(said.contains("excerpt     1' ** 1=1 --"), "words are left out: {said}");
    let good = inspect(folder.path(), &["--file", "good.http"]);
    assert_eq!(good.status.code(), Some(0));
    assert!(text(&good.stdout).contains("would pass\n"), "{}", text(&good.stdout));
    assert_eq!(text(&good.stderr), "", "nobody has written the defaults");
}

#[test]
fn a_curl_command_is_taken_as_arguments_or_as_text() {
    let folder = with(&[
        ("copied.txt", "curl 'https://shop.test/x' \\\n  --data-raw $'a=<script>go()</script>'\n"),
        ("body.txt", "a=tea"),
    ]);
    let bad = inspect(
        folder.path(),
        &["--", "curl", "-X", "POST", "https://shop.test/x", "-d", "a=<script>go()</script>"],
    );
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stdout).starts_with("curl: POST /x\n"), "{}", text(&bad.stdout));
    assert_eq!(inspect(folder.path(), &["--file", "copied.txt"]).status.code(), Some(1));
    assert_eq!(
        inspect(folder.path(), &["--", "curl", "-d", "@body.txt", "shop.test"]).status.code(),
        Some(0)
    );
    let odd = inspect(folder.path(), &["--", "curl", "--what", "shop.test"]);
    assert_eq!(odd.status.code(), Some(2));
    assert!(text(&odd.stderr).contains("`--what` is not an option"), "{}", text(&odd.stderr));
}

#[test]
fn a_log_tells_what_enforcing_would_have_refused() {
    let log = [
        r#"{"method": "GET", "path": "/a?x=1", "authority": "shop.test", "client": "192.0.2.1", "status": 200}"#,
        r#"{"method": "GET", "uri": "/a?page=1%27%20or%201=1%20--%20", "user_agent": "Mozilla/5.0", "referer": null}"#,
        r#"{"request": {"method": "POST", "uri": "/b", "headers": [["Host", "h"], ["Content-Type", "application/json"]], "body": "{\"note\": \"<script>go()</script>\"}"}}"#,
        r#"{"method": "GET", "uri": "/a?page=1%27%20or%202=2%20--%20"}"#,
        r#"{"torn": "#,
    ];
    let config = r#"{"sanitize": {"mode": "monitor"}}"#;
    let folder = with(&[("log.jsonl", &log.join("\n")), ("config.json", config)]);
    let lines = inspect(folder.path(), &["--file", "log.jsonl"]);
    assert_eq!(lines.status.code(), Some(1));
    let said = text(&lines.stdout);
    assert!(!said.contains("log.jsonl:1:") && said.contains("log.jsonl:2: GET /a\n"), "{said}");
    assert!(said.ends_with("4 requests: 1 would pass, 3 would be refused, 1 could not be read\n"), "{said}");
    assert!(text(&lines.stderr).contains("log.jsonl:5: is not JSON"), "{}", text(&lines.stderr));

    let json = text(&inspect(folder.path(), &["--file", "log.jsonl", "--json"]).stdout);
    let all: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), 5);
    assert_eq!((&all[0]["decision"], &all[1]["decision"]), (&"allow".into(), &"deny".into()));
    assert_eq!(all[2]["decisions"][0]["details"]["place"], "json");
    assert!(all[4]["unreadable"].is_string());

    let monitored = inspect(folder.path(), &["--file", "log.jsonl", "--summary", "--config", "config.json"]);
    assert_eq!(monitored.status.code(), Some(1));
    let said = text(&monitored.stdout);
    let rows: Vec<String> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for row in ["2 sanitize sql-injection query", "2 query page sql-injection log.jsonl:2"] {
        assert!(rows.iter().any(|found| found == row), "{row} not in {said}");
    }
    assert!(said.contains("3 would pass now, and be refused by `enforce`"), "{said}");
    let json = inspect(folder.path(), &["--file", "log.jsonl", "--summary", "--json"]);
    let summary: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((summary["deny"].as_u64(), summary["unreadable"].as_u64()), (Some(3), Some(1)));
}

#[test]
fn a_har_file_and_standard_input() {
    let har = r#"{"log": {"version": "1.2", "entries": [
        {"request": {"method": "GET", "url": "https://shop.test/", "headers": []}},
        {"request": {"method": "GET", "url": "https://shop.test/?q=%3Cscript%3Ego()%3C/script%3E", "headers": []}}]}}"#;
    let folder = with(&[("session.har", har)]);
    let said = text(&inspect(folder.path(), &["--file", "session.har"]).stdout);
    assert!(
        said.starts_with("session.har, entry 2: GET /\n") && said.contains("2 requests: 1 would pass"),
        "{said}"
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["inspect", "--file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(ATTACK.as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn what_cannot_be_read_is_exit_code_2() {
    let folder = with(&[
        ("bad.json", r#"{"sanitise": {}}"#),
        ("empty", ""),
        ("good.http", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ]);
    for arguments in [
        &["--file", "missing"][..],
        &["--file", "empty"],
        &["--file", "good.http", "--config", "bad.json"],
        &["--file", "good.http", "--config", "missing"],
        &["--file", "good.http", "--claim", "x"],
        &[],
    ] {
        let output = inspect(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let limited =
        r#"{"rate_limit": {"rules": [{"name": "none", "per": ["tenant"], "limit": 1, "window": "1h"}]}}"#;
    std::fs::write(folder.path().join("limited.json"), limited).unwrap();
    std::fs::write(folder.path().join("twice.jsonl"), "{\"uri\": \"/\"}\n{\"uri\": \"/\"}\n").unwrap();
    let twice = inspect(folder.path(), &["--file", "twice.jsonl", "--config", "limited.json"]);
    assert_eq!(twice.status.code(), Some(0), "{}", text(&twice.stdout));
}
