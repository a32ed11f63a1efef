//! How each piece is started, and how it is known to answer.

use std::{
    fs::{self, File, OpenOptions},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::{Options, Piece, loopback, statistic};
use crate::{bootstrap, clock::Deadline, http, local_reply, secrets::Secrets};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(2);

/// The command that starts a piece, with its output in its log.
pub(super) fn command(piece: Piece, options: &Options, secrets: &Secrets) -> Result<Command> {
    let mut command = match piece {
        Piece::Companion => companion(options, secrets)?,
        Piece::Upstream => upstream(options)?,
        Piece::Envoy => envoy(options, secrets)?,
    };
    let log = open_log(&options.log(piece))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

fn open_log(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("cannot write the log {}", path.display()))
}

fn companion(options: &Options, secrets: &Secrets) -> Result<Command> {
    let mut command = Command::new(options.layout.companion()?);
    command.arg("serve");
    if options.demonstration {
        command.arg("--demonstration");
    }
    command
        .env("COMPANION_ADDRESS", "127.0.0.1")
        .env("COMPANION_PORT", options.ports.companion.to_string())
        .env("INGEST_PORT", options.ports.ingest.to_string())
        .env("DATA_DIR", &options.data_dir)
        .env("SECRET_KEY", secrets.secret_key.reveal())
        .env("PORTCULLIS_INGEST_TOKEN", secrets.ingest_token.reveal())
        .envs(options.companion_variables.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

fn upstream(options: &Options) -> Result<Command> {
    let mut command = Command::new(options.layout.xtask()?);
    command.args(["upstream", "--port", &options.ports.upstream.to_string()]);
    Ok(command)
}

fn envoy(options: &Options, secrets: &Secrets) -> Result<Command> {
    let file = options.data_dir.join("envoy.json");
    let bootstrap = bootstrap(options)?;
    fs::write(&file, serde_json::to_vec_pretty(&bootstrap)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(options.layout.envoy()?);
    command
        .arg("--config-path")
        .arg(&file)
        .args(["--concurrency", &options.concurrency.to_string()])
        // Several Envoys share this machine: none must take another for its own successor.
        .arg("--disable-hot-restart")
        .args(["--log-level", "warning", "--component-log-level", &options.envoy_log])
        .env("PORTCULLIS_INGEST_TOKEN", secrets.ingest_token.reveal())
        .env("PORTCULLIS_CSRF_KEYS", format!("k1:{}", secrets.csrf_key.reveal()));
    Ok(command)
}

/// Envoy's bootstrap for these options.
pub(super) fn bootstrap(options: &Options) -> Result<Value> {
    let path = options.layout.bootstrap_template();
    let template = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let module = match &options.module {
        Some(module) => module.clone(),
        None => options.layout.module()?,
    };
    let upstream = options.upstream_address();
    let config = options.config.text(&options.layout)?;
    let values: Map<String, Value> = [
        ("LISTEN_ADDRESS", json!(options.listen.to_string())),
        ("ENVOY_PORT", json!(options.ports.envoy)),
        ("ADMIN_PORT", json!(options.ports.admin)),
        ("INGEST_PORT", json!(options.ports.ingest)),
        ("COMPANION_PORT", json!(options.ports.companion)),
        ("ACCESS_LOG", json!(options.access_log())),
        ("MODULE", json!(module)),
        ("LOCAL_REPLY_HEADERS", local_reply::headers_to_add(&config)),
        ("MODULE_CONFIG", json!(config)),
        ("UPSTREAM_HOST", json!(upstream.host)),
        ("UPSTREAM_PORT", json!(upstream.port)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let mut document = bootstrap::render(&template, &values)
        .with_context(|| format!("in the template {}", path.display()))?;
    options.edits.iter().for_each(|edit| edit.apply(&mut document));
    Ok(document)
}

/// Whether a piece answers. No request goes through Envoy's public listener: it would be counted and recorded.
pub(super) fn answers(piece: Piece, options: &Options) -> bool {
    let ok = |port: u16, path: &str| {
        http::get(loopback(port), path, QUESTION).is_ok_and(|answer| answer.status == 200)
    };
    match piece {
        Piece::Companion => {
            ok(options.ports.companion, "/monitoring/readiness")
                && http::accepts(loopback(options.ports.ingest), QUESTION)
        }
        Piece::Upstream => http::accepts(loopback(options.ports.upstream), QUESTION),
        Piece::Envoy => {
            ok(options.ports.admin, "/ready") && http::accepts(loopback(options.ports.envoy), QUESTION)
        }
    }
}

/// Lets Envoy finish: no new connections, until nothing is under way or the time is over; then a moment for the
/// module's next tick, which delivers what it has recorded.
pub(super) fn drain(admin: SocketAddr, most: Duration) {
    const TICK: Duration = Duration::from_millis(600);
    let deadline = Deadline::after(most);
    if http::request(admin, "POST", "/drain_listeners", QUESTION).is_err() {
        return;
    }
    deadline.poll(|| {
        let active = statistic(admin, "http.public.downstream_rq_active").ok()?;
        (active.unwrap_or(0) == 0).then_some(())
    });
    thread::sleep(TICK.min(deadline.remaining()));
}

/// A bearer token, from the companion's own program.
pub(super) fn token(options: &Options, secrets: &Secrets, tenant: Option<&str>) -> Result<String> {
    let mut command = Command::new(options.layout.companion()?);
    command.arg("token").env("DATA_DIR", &options.data_dir).env("SECRET_KEY", secrets.secret_key.reveal());
    if let Some(tenant) = tenant {
        command.args(["--tenant", tenant]);
    }
    let output = command.stdin(Stdio::null()).output().context("cannot start the companion's program")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Edit, ModuleConfig, Upstream};

    fn options() -> Options {
        let mut options = Options::for_tests("/data");
        options.ports.choose_free().unwrap();
        options.module = Some("/modules/m.wasm".into());
        options.config = ModuleConfig::Text("{\"a\": \"é\\n\"}".to_owned());
        options
    }

    #[test]
    fn the_template_takes_all_values() {
        let mut options = options();
        options.upstream = Upstream::At("app.test:3000".parse().unwrap());
        let document = bootstrap(&options).unwrap();
        let text = document.to_string();
        assert!(!text.contains("${"), "a placeholder is left");
        let listener = &document["static_resources"]["listeners"][0];
        assert_eq!(listener["address"]["socket_address"]["port_value"], json!(options.ports.envoy));
        assert!(text.contains("\"/modules/m.wasm\"") && text.contains("\"app.test\""));
        let value = json!("{\"a\": \"é\\n\"}").to_string();
        assert!(text.contains(&value), "the configuration must arrive as it is");
    }

    #[test]
    fn no_secret_stands_in_the_bootstrap_or_on_a_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_folder(folder.path()).unwrap();
        let options = Options { data_dir: folder.path().into(), ..options() };
        assert!(!bootstrap(&options).unwrap().to_string().contains(secrets.ingest_token.reveal()));
        for command in [companion(&options, &secrets), envoy(&options, &secrets)].into_iter().flatten() {
            for argument in command.get_args() {
                let argument = argument.to_string_lossy();
                assert!(
                    !argument.contains(secrets.secret_key.reveal())
                        && !argument.contains(secrets.ingest_token.reveal())
                );
            }
        }
    }

    #[test]
    fn edits_apply_in_order() {
        let mut options = options();
        options.edits = vec![
            Edit::new(|bootstrap| bootstrap["node"]["id"] = json!("first")),
            Edit::new(|bootstrap| bootstrap["node"]["cluster"] = bootstrap["node"]["id"].clone()),
        ];
        assert_eq!(bootstrap(&options).unwrap()["node"], json!({"id": "first", "cluster": "first"}));
    }
}
