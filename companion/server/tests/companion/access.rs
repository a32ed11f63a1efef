//! Who may connect: TLS, certificates of those who connect, addresses, guessing.

use std::path::Path;
use std::process::Command;

use portcullis_server::http::access::{AllowList, GUESSES};
use portcullis_server::http::tls::TlsFiles;
use portcullis_server::settings::IngestPlace;

use crate::support::{INGEST_TOKEN, Running, Store, record};

fn openssl(folder: &Path, arguments: &[&str]) {
    let output =
        Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate of `localhost`, signed by `issuer`, or by itself.
pub fn certificate(folder: &Path, name: &str, issuer: Option<&TlsFiles>) -> TlsFiles {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let mut arguments: Vec<&str> =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
            .split(' ')
            .collect();
    arguments.extend([
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]);
    if let Some(issuer) = issuer {
        arguments.extend([
            "-CA",
            issuer.certificate.to_str().unwrap(),
            "-CAkey",
            issuer.key.to_str().unwrap(),
        ]);
        arguments.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    openssl(folder, &arguments);
    TlsFiles { certificate: folder.join(certificate), key: folder.join(key), client_ca: None }
}

fn curl(arguments: &[&str]) -> (String, String) {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}"])
        .args(arguments);
    let output = command.output().expect("curl is needed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    (status.to_owned(), format!("{body}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_certificate_the_api_speaks_tls_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificate(folder.path(), "api", None);
    let ca = files.certificate.to_str().unwrap().to_owned();
    let running = Running::started_with(Store::Sqlite, |settings| settings.api_tls = Some(files)).await;
    let port = running.companion.api_address.unwrap().port();
    let url = format!("https://localhost:{port}/api/security/status");
    let authorization = format!("Authorization: Bearer {}", running.admin());
    let answers = tokio::task::spawn_blocking(move || {
        [
            curl(&["--cacert", &ca, "-H", &authorization, &url]),
            curl(&["--cacert", &ca, "--tls-max", "1.2", &url]),
            curl(&["--cacert", &ca, "--tls-max", "1.1", &url]),
            curl(&[&url]),
            curl(&[&url.replace("https", "http")]),
        ]
    });
    let [good, no_token, old, unknown, plain] = answers.await.unwrap();
    assert_eq!(good.0, "200", "{}", good.1);
    assert_eq!(no_token.0, "401", "{}", no_token.1);
    for refused in [old, unknown, plain] {
        assert_eq!(refused.0, "000", "{}", refused.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_certificates_of_modules_only_they_deliver() {
    let folder = tempfile::tempdir().unwrap();
    let [ca, other] = ["ca", "other"].map(|name| certificate(folder.path(), name, None));
    let server = certificate(folder.path(), "server", Some(&ca));
    let module = certificate(folder.path(), "module", Some(&ca));
    let stranger = certificate(folder.path(), "stranger", Some(&other));
    let files = TlsFiles { client_ca: Some(ca.certificate.clone()), ..server };
    let running = Running::started_with(Store::Sqlite, |settings| {
        settings.ingest_tls = Some(files);
        settings.ingest_token = None;
        assert!(matches!(settings.ingest, IngestPlace::Port(_)));
    })
    .await;
    let url = format!("https://localhost:{}/v1/ingest", running.companion.ingest_address.unwrap().port());
    let body = record("acme", 1, "REQUEST", "INFO").to_string();
    let deliver = move |files: Option<&TlsFiles>| {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut arguments = vec!["--cacert".to_owned(), text(&ca.certificate)];
        if let Some(files) = files {
            arguments.extend([
                "--cert".to_owned(),
                text(&files.certificate),
                "--key".to_owned(),
                text(&files.key),
            ]);
        }
        arguments.extend(
            ["-H", "Content-Type: application/x-ndjson", "--data-binary", &body, &url].map(str::to_owned),
        );
        curl(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let answers = tokio::task::spawn_blocking(move || {
        [deliver(Some(&module)), deliver(Some(&stranger)), deliver(None)]
    });
    let [known, unknown, none] = answers.await.unwrap();
    assert_eq!(known.0, "200", "{}", known.1);
    assert_eq!((unknown.0.as_str(), none.0.as_str()), ("000", "000"), "{} {}", unknown.1, none.1);
    assert_eq!(running.events("acme", "").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_scope_is_for_listed_addresses() {
    let list = |text: &str| AllowList(vec![text.parse().unwrap()]);
    for (listed, status) in [("127.0.0.0/8", 200), ("10.0.0.0/8", 403)] {
        let running =
            Running::started_with(Store::Sqlite, |settings| settings.admin_allow = list(listed)).await;
        running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
        let path = "/api/security/events/acme";
        assert_eq!(running.get(path, Some(&running.admin())).await.status, status, "{listed}");
        assert_eq!(running.get(path, Some(&running.of_tenant("acme"))).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_is_slowed_and_locks_nobody_out() {
    let running = Running::start(Store::Sqlite, true).await;
    let path = "/api/security/status";
    let mut statuses = Vec::new();
    for n in 0..GUESSES + 5 {
        statuses.push(running.get(path, Some(&format!("guess-{n}"))).await.status);
    }
    let (before, after) = statuses.split_at(usize::try_from(GUESSES).unwrap());
    assert!(before.iter().all(|status| *status == 401), "{before:?}");
    assert!(after.iter().all(|status| *status == 429), "{after:?}");
    assert_eq!(running.get(path, Some("guess")).await.header("retry-after"), Some("60"));
    assert_eq!(running.get(path, Some(&running.admin())).await.status, 200);
    assert_eq!(running.get(path, None).await.status, 401);
    assert_eq!(running.ingest_bytes(b"", INGEST_TOKEN).await.status, 200);
}
