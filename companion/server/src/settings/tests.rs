use clap::{CommandFactory, Parser};

use super::*;
use crate::cli::{Cli, Command};

fn args(folder: &Path, flags: &[&str]) -> ServeArgs {
    let folder = folder.to_str().unwrap();
    let line = ["portcullis", "serve", "--data-dir", folder].into_iter().chain(flags.iter().copied());
    match Cli::parse_from(line).command {
        Command::Serve(args) => *args,
        _ => panic!("not serve"),
    }
}

fn error(flags: &[&str], variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let lookup =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Settings::new(&args(folder.path(), flags), &lookup).unwrap_err().to_string()
}

const KEY: (&str, &str) = ("SECRET_KEY", "0123456789abcdef0123456789abcdef");

#[test]
fn every_refusal_names_the_variable_and_a_remedy() {
    assert!(error(&[], &[]).starts_with("SECRET_KEY: not set; make one with"));
    assert!(error(&[], &[("SECRET_KEY", "")]).starts_with("SECRET_KEY: not set"));
    assert!(error(&[], &[("SECRET_KEY", "short")]).starts_with("SECRET_KEY: 5 bytes, must be at least 32"));
    assert!(error(&["--demonstration"], &[("SECRET_KEY", "short")]).starts_with("SECRET_KEY: 5 bytes"));
    assert!(error(&[], &[KEY]).starts_with("PORTCULLIS_INGEST_TOKEN: not set"));
    let without_root = error(&["--ingest-socket", "/x"], &[KEY]);
    assert!(without_root.starts_with("ENCRYPTION_KEY: not set; make one with"), "{without_root}");
    assert_eq!(error(&["--key-rotation", "5m"], &[KEY]), "KEY_ROTATION: must be 1h to 3660d, or off");
    assert!(error(&["--demonstration"], &[("ENCRYPTION_KEY", "x")]).starts_with("ENCRYPTION_KEY: 1 bytes"));
    let postgres = error(&["--database-url", "postgres://u:hunter2@h:p/db"], &[KEY]);
    assert!(postgres.contains("not a PostgreSQL URL; write postgres://") && !postgres.contains("hunter2"));
    assert!(error(&["--database-url", "mysql://h"], &[KEY]).contains("DATABASE_URL: not a store"));
    assert!(error(&["--database-url", "sqlite::memory:"], &[KEY]).contains("in-memory"));
    let open =
        error(&["--demonstration", "--limits-grpc-port", "1", "--limits-grpc-address", "0.0.0.0"], &[]);
    assert!(open.starts_with("LIMITS_GRPC_TOKEN: not set"), "{open}");
    assert!(error(&["--demonstration", "--limits-config", "x"], &[]).starts_with("LIMITS_CONFIG: is set"));
    assert_eq!(error(&["--audit-retention", "23h"], &[KEY]), "AUDIT_RETENTION: must be 1d to 3660d");
}

/// The variables that are required by name, and what they are when nobody sets them.
const REQUIRED: [(&str, &str); 9] = [
    ("SECURITY_ENABLED", "true"),
    ("DATABASE_OPTIMIZATION_ENABLED", "true"),
    ("DATABASE_POOL_SIZE", "10"),
    ("DATABASE_MAX_OVERFLOW", "20"),
    ("DATABASE_POOL_TIMEOUT", "30"),
    ("RATE_LIMIT_API_CALLS", "100"),
    ("RATE_LIMIT_LOGIN_ATTEMPTS", "5"),
    ("RATE_LIMIT_FILE_UPLOADS", "20"),
    ("ENVIRONMENT", "production"),
];

#[test]
fn required_variables_have_their_names_and_defaults() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for (name, default) in REQUIRED {
        let of_name = |argument: &&clap::Arg| argument.get_env().is_some_and(|variable| variable == name);
        let argument = serve.get_arguments().find(of_name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(argument.get_default_values(), [default], "{name}");
    }
}

#[test]
fn pools_are_as_they_are_set() {
    let folder = tempfile::tempdir().unwrap();
    let lookup = |name: &str| ["SECRET_KEY", "ENCRYPTION_KEY"].contains(&name).then(|| KEY.1.to_owned());
    let shapes = |flags: &[&str]| {
        let flags = [&["--ingest-socket", "/x"], flags].concat();
        let settings = Settings::new(&args(folder.path(), &flags), &lookup).unwrap();
        let (own, theirs) = (settings.shape, settings.databases.shape);
        assert_eq!(
            (own.connections, own.overflow, own.pool_wait),
            (theirs.size, theirs.overflow, theirs.wait),
            "the companion's own and the tenants' alike"
        );
        (own.connections, own.overflow, own.pool_wait.as_secs())
    };
    assert_eq!(shapes(&[]), (10, 20, 30));
    let set = ["--database-pool-size=3", "--database-max-overflow=4", "--database-pool-timeout=5"];
    assert_eq!(shapes(&set), (3, 4, 5));
    let rotated = |flags: &[&str]| {
        let flags = [&["--ingest-socket", "/x"], flags].concat();
        Settings::new(&args(folder.path(), &flags), &lookup).unwrap().key_rotation
    };
    assert_eq!(rotated(&[]), Some(DAY * 90), "keys are rotated without being asked");
    assert_eq!(rotated(&["--key-rotation", "off"]), None);
}

#[test]
fn a_demonstration_makes_its_secrets_once() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Settings::new(&args(folder.path(), &["--demonstration"]), &|_| None).unwrap();
    let (first, second) = (start(), start());
    let token = first.ingest_token.unwrap();
    assert!(second.ingest_token.unwrap().matches(token.expose()));
    assert_eq!(first.shape.registration, Registration::ByTraffic { max_tenants: 10_000 });
    assert!(existing_token_key(folder.path(), &|_| None).is_ok());
}

#[test]
fn a_socket_needs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let lookup = |name: &str| ["SECRET_KEY", "ENCRYPTION_KEY"].contains(&name).then(|| KEY.1.to_owned());
    let settings = Settings::new(&args(folder.path(), &["--ingest-socket", "/x"]), &lookup).unwrap();
    assert!(settings.ingest_token.is_none() && settings.is_private());
}

#[test]
fn urls_of_the_store() {
    let of = |url: &str| {
        database(&StoreArgs { data_dir: "d".into(), database_url: Some(url.to_owned()) })
            .map(|place| place.to_string())
            .ok()
    };
    assert_eq!(of("").as_deref(), Some("d/companion.db"));
    assert_eq!(of("sqlite:a.db").as_deref(), Some("a.db"));
    assert_eq!(of("sqlite:///var/a.db").as_deref(), Some("/var/a.db"));
    assert_eq!(of("a.db").as_deref(), Some("a.db"));
    assert_eq!(of("postgres://u:hunter2@h/db").as_deref(), Some("postgres at h, database db"));
    assert_eq!(of("file:a.db?mode=memory"), None);
}
