//! The variables that are required by name, as a process reads them: what each says is what the companion does.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::commands::{Serving, portcullis, text};
use crate::support::{ROOT_KEY, json_request, send};

const SECRET_KEY: &str = "a key of thirty-two bytes or more";
const SERVE: [&str; 3] = ["serve", "--port=0", "--ingest-port=0"];

fn with<'a>(command: &'a mut Command, variables: &[(&str, &str)]) -> &'a mut Command {
    command.envs(variables.iter().copied())
}

fn secrets() -> [(&'static str, &'static str); 3] {
    [
        ("SECRET_KEY", SECRET_KEY),
        ("ENCRYPTION_KEY", ROOT_KEY),
        ("PORTCULLIS_INGEST_TOKEN", "sixteen bytes, no less"),
    ]
}

/// A companion with the secrets and these variables, and what it answers to the administrator at each path.
async fn answers(folder: &Path, variables: &[(&str, &str)], paths: &[&str]) -> Vec<Value> {
    let serving = Serving::start(with(with(&mut portcullis(folder, &SERVE), &secrets()), variables));
    let api = serving.ready["api"].as_str().unwrap().parse().unwrap();
    let token = with(&mut portcullis(folder, &["token"]), &secrets()).output().unwrap();
    let token = text(&token.stdout).trim().to_owned();
    let mut all = Vec::new();
    let tenant = send(api, &json_request("PUT", "/api/tenants/acme", &json!({}), &token)).await;
    assert!([200, 201].contains(&tenant.status), "{}", tenant.body);
    for path in paths {
        let answer = send(api, &json_request("GET", path, &json!({}), &token)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        all.push(answer.json());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_is_as_required() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["/api/security/status", "/api/security/policies/acme"];
    let [status, policies] = answers(folder.path(), &[], &paths).await.try_into().unwrap();
    for name in [
        "security_enabled",
        "encryption_available",
        "rate_limiting_enabled",
        "audit_logging_enabled",
        "database_optimization_enabled",
    ] {
        assert_eq!(status[name], true, "{name}");
    }
    let expected = json!({"api_calls_per_minute": 100, "login_attempts_per_minute": 5, "file_uploads_per_minute": 20,
        "report_generation_per_minute": 10});
    assert_eq!(policies["rate"], expected);
    let expected = json!({"min_length": 8, "require_uppercase": true, "require_lowercase": true, "require_numbers": true,
        "require_special_chars": true, "max_age_days": 90});
    assert_eq!(policies["password"], expected);
    let expected =
        json!({"session_timeout_minutes": 60, "max_concurrent_sessions": 3, "inactive_timeout_minutes": 30});
    assert_eq!(policies["session"], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_variable_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["/api/security/status", "/api/security/policies/acme"];
    let variables = [
        ("SECURITY_ENABLED", "false"),
        ("DATABASE_OPTIMIZATION_ENABLED", "false"),
        ("RATE_LIMIT_API_CALLS", "7"),
        ("RATE_LIMIT_LOGIN_ATTEMPTS", "3"),
        ("RATE_LIMIT_FILE_UPLOADS", "4"),
        ("DATABASE_POOL_SIZE", "2"),
        ("DATABASE_MAX_OVERFLOW", "1"),
        ("DATABASE_POOL_TIMEOUT", "5"),
        ("ENVIRONMENT", "development"),
    ];
    let [status, policies] = answers(folder.path(), &variables, &paths).await.try_into().unwrap();
    assert_eq!(
        (&status["security_enabled"], &status["rate_limiting_enabled"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(status["database_optimization_enabled"], false);
    let rate = &policies["rate"];
    let set = ["api_calls_per_minute", "login_attempts_per_minute", "file_uploads_per_minute"];
    assert_eq!(set.map(|name| rate[name].clone()), [json!(7), json!(3), json!(4)]);
}

#[test]
fn what_cannot_be_is_refused_at_the_start() {
    for (name, wrong, named) in [
        ("SECURITY_ENABLED", "perhaps", "security-enabled"),
        ("DATABASE_OPTIMIZATION_ENABLED", "2", "database-optimization-enabled"),
        ("RATE_LIMIT_API_CALLS", "-1", "rate-limit-api-calls"),
        ("RATE_LIMIT_LOGIN_ATTEMPTS", "many", "rate-limit-login-attempts"),
        ("RATE_LIMIT_FILE_UPLOADS", "1000001", "rate-limit-file-uploads"),
        ("DATABASE_POOL_SIZE", "1", "database-pool-size"),
        ("DATABASE_MAX_OVERFLOW", "501", "database-max-overflow"),
        ("DATABASE_POOL_TIMEOUT", "0", "database-pool-timeout"),
        ("ENVIRONMENT", "moon", "environment"),
        ("SECRET_KEY", "short", "SECRET_KEY"),
        ("ENCRYPTION_KEY", "short", "ENCRYPTION_KEY"),
        ("ENCRYPTION_KEY", "", "ENCRYPTION_KEY: not set"),
        ("EXPORT_PERSONAL", "clear", "export-personal"),
        ("KEY_ROTATION", "5m", "KEY_ROTATION"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let refused =
            with(&mut portcullis(folder.path(), &SERVE), &secrets()).env(name, wrong).output().unwrap();
        let said = text(&refused.stderr);
        assert!(!refused.status.success(), "{name}={wrong}");
        assert!(said.to_lowercase().contains(&named.to_lowercase()), "{name}={wrong}: {said}");
    }
}
