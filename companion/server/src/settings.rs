//! What the companion runs with: the command line and the environment, checked as a whole before anything
//! starts.
//!
//! Every error names the variable and the remedy. Secrets of a demonstration are made here, once, into
//! DATA_DIR.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit_log::note::Signer;
use portcullis_audit_log::retention::Retention;

use crate::api::Protections;
use crate::cli::{Environment, ServeArgs, StoreArgs};
use crate::export::Places;
use crate::http::access::AllowList;
use crate::http::tls::TlsFiles;
use crate::ingest::MIN_TOKEN_BYTES;
use crate::keys::{Absent, Service};
use crate::limits::store::RedisUrl;
use crate::policies::{RatePolicy, SecurityPolicies};
use crate::secret::Secret;
use crate::storage::postgres::Target;
use crate::storage::{Place, Registration, Shape};
use crate::token::TokenKey;
use crate::trail;
use crate::trail::redact::Redactor;
use crate::{alerts, bouncer, databases, limits, logging};
pub use error::SettingsError;
pub use kept::retention;

/// The shortest SECRET_KEY.
pub const MIN_KEY_BYTES: usize = 32;
/// The most tenants that register themselves in a demonstration.
pub const MAX_SELF_REGISTERED: u32 = 10_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where modules deliver.
#[derive(Clone, Debug)]
pub enum IngestPlace {
    /// A port.
    Port(SocketAddr),
    /// A Unix socket.
    Socket(PathBuf),
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API's address.
    pub api: SocketAddr,
    /// The ingest listener's.
    pub ingest: IngestPlace,
    /// TLS of the API; none speaks plain HTTP.
    pub api_tls: Option<TlsFiles>,
    /// TLS of the ingest listener; with certificates of those who connect no token is asked for.
    pub ingest_tls: Option<TlsFiles>,
    /// Where the admin scope may be used from.
    pub admin_allow: AllowList,
    /// The store.
    pub database: Place,
    /// What it may become.
    pub shape: Shape,
    /// How long events are kept.
    pub retention: Duration,
    /// The audit trail.
    pub trail: trail::Settings,
    /// Signs tokens.
    pub tokens: TokenKey,
    /// Keeps the root key of the tenants' keys.
    pub root: Service,
    /// How old a tenant's key may become before it is rotated; none: it is not.
    pub key_rotation: Option<Duration>,
    /// What a module must show.
    pub ingest_token: Option<Secret>,
    /// Where the journal of the limits lies.
    pub data_dir: PathBuf,
    /// Redis, where limits are counted instead; it may hold a password.
    pub redis_url: Option<RedisUrl>,
    /// What modules spend of each limit without tokens.
    pub limits_share: limits::LocalShare,
    /// Where Envoy's rate limit service listens, if it does.
    pub grpc: Option<limits::grpc::Place>,
    /// What a tenant has that set nothing.
    pub policies: SecurityPolicies,
    /// What status tells.
    pub protections: Protections,
    /// Where it runs.
    pub environment: Environment,
    /// The tenants' databases.
    pub databases: databases::Options,
    /// Alerts by webhook.
    pub alerts: alerts::Options,
    /// PgBouncer for them, if one is managed.
    pub bouncer: Option<bouncer::Options>,
    /// Where the audit trail is exported to.
    pub exports: Places,
    /// The log's file, if it has one.
    pub log_file: Option<PathBuf>,
    /// Whether this is a demonstration.
    pub demonstration: bool,
}

/// Reads a variable; an empty one counts as not set, because scripts export what they do not fill.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment.
#[must_use]
pub fn process_variables(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn variable(variables: Variables<'_>, name: &str) -> Option<String> {
    variables(name).filter(|value| !value.is_empty())
}

impl Settings {
    /// Checks the whole. Makes DATA_DIR, and in a demonstration the missing secrets.
    ///
    /// # Errors
    /// The first [`SettingsError`].
    pub fn new(args: &ServeArgs, variables: Variables<'_>) -> Result<Self, SettingsError> {
        let database = database(&args.store)?;
        let kept = kept::retention(&args.retention)?;
        let key_rotation = args.key_rotation.0;
        if let Some(period) = key_rotation {
            kept::check_rotation(period, &kept)?;
        }
        make_data_dir(&args.store.data_dir)?;
        let made = |file: &str, minimum| Secret::read_or_generate(&args.store.data_dir.join(file), minimum);
        let secret_key = match variable(variables, "SECRET_KEY") {
            Some(text) => Secret::new("SECRET_KEY", text, MIN_KEY_BYTES)?,
            None if args.demonstration => made(SECRET_KEY_FILE, MIN_KEY_BYTES)?,
            None => return Err(SettingsError::NoSecretKey),
        };
        let socket = args.ingest_socket.clone().filter(|path| !path.as_os_str().is_empty());
        let api_tls =
            tls(&args.tls.tls_cert_file, &args.tls.tls_key_file, &None, "TLS_CERT_FILE and TLS_KEY_FILE")?;
        let ingest_tls = tls(
            &args.tls.ingest_tls_cert_file,
            &args.tls.ingest_tls_key_file,
            &args.tls.ingest_client_ca_file,
            "INGEST_TLS_CERT_FILE and INGEST_TLS_KEY_FILE",
        )?;
        let ingest_token = match variable(variables, "PORTCULLIS_INGEST_TOKEN") {
            Some(text) => Some(Secret::new("PORTCULLIS_INGEST_TOKEN", text, MIN_TOKEN_BYTES)?),
            None if socket.is_some() => None,
            // A certificate of those who may says more than a token.
            None if ingest_tls.as_ref().is_some_and(|files| files.client_ca.is_some()) => None,
            None if args.demonstration => Some(made("ingest-token", MIN_TOKEN_BYTES)?),
            None => return Err(SettingsError::NoIngestToken),
        };
        let absent = if args.demonstration { Absent::Make } else { Absent::Refuse };
        let root = Service::new(variables, &args.store.data_dir, absent)?;
        let at = |port| SocketAddr::new(args.address, port);
        Ok(Self {
            api: at(args.port),
            ingest: socket.map_or(IngestPlace::Port(at(args.ingest_port)), IngestPlace::Socket),
            api_tls,
            ingest_tls,
            admin_allow: AllowList(args.admin_allow.clone()),
            database,
            shape: Shape {
                registration: match args.demonstration {
                    true => Registration::ByTraffic { max_tenants: MAX_SELF_REGISTERED },
                    false => Registration::Operator,
                },
                max_bytes: args.database_max_bytes,
                connections: usize::from(args.database_pool_size),
                overflow: usize::from(args.database_max_overflow),
                pool_wait: Duration::from_secs(args.database_pool_timeout.into()),
            },
            retention: args.retention.audit_retention,
            trail: trail::Settings {
                max_bytes: args.audit_max_bytes,
                retention: kept,
                redactor: Some(Arc::new(redactor(args, variables)?)),
                ..trail(&args.store.data_dir, variables)?
            },
            tokens: TokenKey::new(secret_key),
            root,
            key_rotation,
            ingest_token,
            data_dir: args.store.data_dir.clone(),
            redis_url: args.redis_url.clone().filter(|url| !url.is_empty()).map(RedisUrl),
            limits_share: args.limits_share,
            grpc: grpc::grpc(args, variables)?,
            policies: SecurityPolicies {
                rate: RatePolicy {
                    api_calls_per_minute: args.rate_limit_api_calls,
                    login_attempts_per_minute: args.rate_limit_login_attempts,
                    file_uploads_per_minute: args.rate_limit_file_uploads,
                    ..RatePolicy::default()
                },
                ..SecurityPolicies::default()
            },
            protections: Protections {
                security: args.security_enabled,
                encryption: true,
                rate_limiting: args.security_enabled,
                audit_logging: true,
                database_optimization: args.database_optimization_enabled,
            },
            environment: args.environment,
            databases: tenants::databases(args),
            alerts: notices::alerts(&args.alerts, &args.store.data_dir, variables)?,
            bouncer: pgbouncer::bouncer(&args.bouncer, &args.store.data_dir)?,
            exports: exports::places(args, variables)?,
            log_file: logging::place(args.log_file.as_deref(), &args.store.data_dir),
            demonstration: args.demonstration,
        })
    }

    /// Whether nothing leaves this machine unencrypted.
    #[must_use]
    pub fn is_private(&self) -> bool {
        let ingest = match &self.ingest {
            IngestPlace::Port(address) => address.ip().is_loopback() || self.ingest_tls.is_some(),
            IngestPlace::Socket(_) => true,
        };
        ingest && (self.api.ip().is_loopback() || self.api_tls.is_some())
    }
}

fn tls(
    certificate: &Option<PathBuf>,
    key: &Option<PathBuf>,
    client_ca: &Option<PathBuf>,
    names: &'static str,
) -> Result<Option<TlsFiles>, SettingsError> {
    match (certificate.clone(), key.clone()) {
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { certificate, key, client_ca: client_ca.clone() }))
        }
        (None, None) if client_ca.is_none() => Ok(None),
        _ => Err(SettingsError::HalfTls(names)),
    }
}

/// The folder of the audit trail, in DATA_DIR.
pub const TRAIL_FOLDER: &str = "audit";
/// The file with the key that signs its checkpoints, in DATA_DIR.
pub const SIGNING_KEY_FILE: &str = "audit-signing-key";

/// The trail of DATA_DIR, without a bound of its own.
fn trail(data_dir: &Path, variables: Variables<'_>) -> Result<trail::Settings, SettingsError> {
    let signer = trail_signer(data_dir, variables)?;
    let folder = data_dir.join(TRAIL_FOLDER);
    let retention = Retention::default();
    Ok(trail::Settings { folder, signer, redactor: None, retention, max_bytes: u64::MAX })
}

/// What is taken out of events. Equal values stay recognizable as long as the key is the same.
fn redactor(args: &ServeArgs, variables: Variables<'_>) -> Result<Redactor, SettingsError> {
    let key = match variable(variables, "AUDIT_REDACTION_KEY") {
        Some(text) => Secret::new("AUDIT_REDACTION_KEY", text, MIN_KEY_BYTES)?,
        None => Secret::read_or_generate(&args.store.data_dir.join("audit-redaction-key"), MIN_KEY_BYTES)?,
    };
    let names = args.audit_redact_fields.iter().chain(&args.audit_redact_headers).map(String::as_str);
    let patterns = args.audit_redact_patterns.as_deref().filter(|text| !text.is_empty());
    Ok(Redactor::new(key, names, patterns)?)
}

/// The trail as `serve` has it, without beginning one.
///
/// # Errors
/// [`SettingsError::NoTrail`], or why its key cannot be used.
pub fn existing_trail(data_dir: &Path, variables: Variables<'_>) -> Result<trail::Settings, SettingsError> {
    let folder = data_dir.join(TRAIL_FOLDER);
    if !folder.is_dir() {
        return Err(SettingsError::NoTrail(folder));
    }
    trail(data_dir, variables)
}

/// The key that signs the trail's checkpoints: AUDIT_SIGNING_KEY, or the file in DATA_DIR, which is made once.
fn trail_signer(data_dir: &Path, variables: Variables<'_>) -> Result<Signer, SettingsError> {
    let (name, secret) = match variable(variables, "AUDIT_SIGNING_KEY") {
        Some(text) => {
            let name = "AUDIT_SIGNING_KEY".to_owned();
            (name.clone(), Secret::new(&name, text, MIN_KEY_BYTES)?)
        }
        None => {
            let path = data_dir.join(SIGNING_KEY_FILE);
            (path.display().to_string(), Secret::read_or_generate(&path, MIN_KEY_BYTES)?)
        }
    };
    let text = std::str::from_utf8(secret.expose()).unwrap_or_default();
    Signer::from_hex(text).map_err(|source| SettingsError::SigningKey { name, source })
}

const SECRET_KEY_FILE: &str = "secret-key";

/// The key for tokens, as `serve` would take it, without making one.
///
/// # Errors
/// [`SettingsError::NoSecretKey`] when there is none, or why it cannot be used.
pub fn existing_token_key(data_dir: &Path, variables: Variables<'_>) -> Result<TokenKey, SettingsError> {
    if let Some(text) = variable(variables, "SECRET_KEY") {
        return Ok(TokenKey::new(Secret::new("SECRET_KEY", text, MIN_KEY_BYTES)?));
    }
    let path = data_dir.join(SECRET_KEY_FILE);
    if !path.exists() {
        return Err(SettingsError::NoSecretKey);
    }
    Ok(TokenKey::new(Secret::read(&path, MIN_KEY_BYTES)?))
}

/// Where the store is.
///
/// # Errors
/// `DATABASE_URL` names none. The URL itself is never repeated: it may hold a password.
pub fn database(args: &StoreArgs) -> Result<Place, SettingsError> {
    let Some(url) = args.database_url.as_deref().filter(|url| !url.is_empty()) else {
        return Ok(Place::Sqlite(args.data_dir.join("companion.db")));
    };
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    if matches!(scheme.as_str(), "postgres" | "postgresql") && url.contains(':') {
        return Ok(Place::Postgres(Box::new(Target::new(url)?)));
    }
    let path = match url.strip_prefix("sqlite:") {
        Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
        None if url.contains("://") || url.starts_with("file:") => return Err(SettingsError::UnknownStore),
        None => url,
    };
    if path.is_empty() || path.contains(":memory:") {
        return Err(SettingsError::InMemory);
    }
    Ok(Place::Sqlite(PathBuf::from(path)))
}

/// Makes DATA_DIR, for this user alone.
///
/// # Errors
/// [`SettingsError::DataDir`].
pub fn make_data_dir(path: &Path) -> Result<(), SettingsError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| SettingsError::DataDir { path: path.to_owned(), source })
}

mod error;
mod exports;
mod grpc;
mod kept;
mod notices;
mod pgbouncer;
mod tenants;
#[cfg(test)]
mod tests;
