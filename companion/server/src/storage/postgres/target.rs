//! Where a PostgreSQL server is, and how a connection to it is secured.
//!
//! `sslmode` as libpq knows it: `disable`, `prefer`, `require`. Without one, a server on this machine is spoken to in plain,
//! any other over TLS, and its certificate is verified always: against `sslrootcert=FILE`, else the system's certificates.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_database::pool::target::options;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Where systems keep the certificates that they trust.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// A statement that takes longer is ended by the server, so that none holds a connection for good.
const OPTIONS: &str =
    "-c statement_timeout=15000 -c idle_in_transaction_session_timeout=30000 -c timezone=UTC";

/// A server and a database on it. It shows host and database, never a password.
#[derive(Clone)]
pub struct Target {
    config: tokio_postgres::Config,
    roots: Option<PathBuf>,
}

/// Why a URL names no server. It never repeats the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL that libpq would take.
    #[error(
        "not a PostgreSQL URL; write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with / and @ in a password as %2F and %40"
    )]
    Malformed,
    /// No database is named.
    #[error("names no database; write postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    NoDatabase,
}

impl Target {
    /// Reads `postgres://...`.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn new(url: &str) -> Result<Self, TargetError> {
        let (url, roots) = take_roots(url);
        let mut config: tokio_postgres::Config = url.parse().map_err(|_| TargetError::Malformed)?;
        if config.get_dbname().is_none() {
            return Err(TargetError::NoDatabase);
        }
        if !options(&url).any(|name| name == "sslmode") {
            let local = config.get_hosts().iter().all(is_local);
            config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
        }
        let options = config.get_options().map_or(OPTIONS.to_owned(), |own| format!("{OPTIONS} {own}"));
        config.options(options);
        config.application_name("portcullis");
        Ok(Self { config, roots })
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// The same for PostgreSQL's own programs, in the variables that they read: a command line is seen by others.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> = vec![("PGDATABASE", self.database().into())];
        match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => variables.push(("PGHOST", name.into())),
            Some(Host::Unix(path)) => variables.push(("PGHOST", path.into())),
            None => {}
        }
        if let Some(port) = self.config.get_ports().first() {
            variables.push(("PGPORT", port.to_string().into()));
        }
        if let Some(user) = self.config.get_user() {
            variables.push(("PGUSER", user.into()));
        }
        if let Some(password) = self.config.get_password() {
            variables.push(("PGPASSWORD", OsStr::from_bytes(password).to_owned()));
        }
        if let Some(roots) = &self.roots {
            variables.push(("PGSSLROOTCERT", roots.into()));
        }
        let mode = match self.config.get_ssl_mode() {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            _ => "verify-full",
        };
        variables.push(("PGSSLMODE", mode.into()));
        variables
    }

    /// What the driver takes.
    pub(crate) fn config(&self) -> tokio_postgres::Config {
        self.config.clone()
    }

    /// How TLS is spoken where it is.
    pub(crate) fn tls(&self) -> Result<MakeRustlsConnect, String> {
        if matches!(self.config.get_ssl_mode(), SslMode::Disable) {
            return connector(RootCertStore::empty());
        }
        let own = self.roots.as_deref();
        let path = if own.is_some() { own } else { system_roots() };
        connector(certificates(path.ok_or("no certificates to trust; add sslrootcert=FILE")?)?)
    }
}

/// How TLS is spoken to servers whose certificates the system's authorities have signed. A system without any trusts nobody.
pub(crate) fn system_tls() -> Result<MakeRustlsConnect, String> {
    connector(system_roots().map_or_else(|| Ok(RootCertStore::empty()), certificates)?)
}

fn system_roots() -> Option<&'static Path> {
    SYSTEM_ROOTS.into_iter().map(Path::new).find(|path| path.exists())
}

fn certificates(path: &Path) -> Result<RootCertStore, String> {
    let failed = |error| format!("sslrootcert {}: {error}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.collect::<Result<Vec<_>, _>>().map_err(failed)?);
    Ok(roots)
}

fn connector(roots: RootCertStore) -> Result<MakeRustlsConnect, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The driver does not know `sslrootcert`.
fn take_roots(url: &str) -> (String, Option<PathBuf>) {
    let Some((head, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let (roots, others): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|pair| pair.starts_with("sslrootcert="));
    let path = roots.first().and_then(|pair| pair.split_once('=')).map(|(_, path)| PathBuf::from(path));
    let url = if others.is_empty() { head.to_owned() } else { format!("{head}?{}", others.join("&")) };
    (url, path)
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        write!(f, "postgres at {host}, database {}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let target = Target::new("postgres://u:hunter2@db.example:5433/security?connect_timeout=3").unwrap();
        for shown in [format!("{target}"), format!("{target:?}")] {
            assert_eq!(shown, "postgres at db.example, database security");
        }
        let error = Target::new("postgres://u:hunter2@h:port/x").unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("postgres://USER:PASSWORD"));
        assert_eq!(Target::new("postgres://u:hunter2@h").unwrap_err(), TargetError::NoDatabase);
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_plain() {
        let mode = |url: &str| Target::new(url).unwrap().config().get_ssl_mode();
        assert_eq!(mode("postgres://u@127.0.0.1/x"), SslMode::Disable);
        assert_eq!(mode("postgres:///x?host=/run/postgresql"), SslMode::Disable);
        assert_eq!(mode("postgres://u@db.example/x"), SslMode::Require);
        assert_eq!(mode("postgres://u:sslmode=disable@db.example/x"), SslMode::Require);
        assert_eq!(mode("postgres://u@db.example/x?sslmode=disable"), SslMode::Disable);
        let target =
            Target::new("postgres://u@db.example/x?sslrootcert=/none.pem&connect_timeout=1").unwrap();
        assert!(target.tls().err().unwrap().contains("/none.pem"));
    }
}
