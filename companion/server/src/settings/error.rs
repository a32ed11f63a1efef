//! Why the companion does not start: each error names the variable and the remedy.

use std::path::PathBuf;

use portcullis_audit_log::note::NoteError;

use crate::alerts;
use crate::export::PlaceError;
use crate::keys::RootError;
use crate::secret::SecretError;
use crate::storage::postgres::TargetError;
use crate::trail::redact::RedactionError;

/// Why the companion does not start.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A secret is weak, exposed, or cannot be read or made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The root key is missing, weak, exposed, or cannot be read or made.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Keys would be rotated all the time, or hardly ever.
    #[error("KEY_ROTATION: must be 1h to 3660d, or off")]
    Rotation,
    /// No SECRET_KEY.
    #[error(
        "SECRET_KEY: not set; make one with: export SECRET_KEY=$(openssl rand -hex 32); or try out with --demonstration"
    )]
    NoSecretKey,
    /// No ingest token although the listener is a port.
    #[error(
        "PORTCULLIS_INGEST_TOKEN: not set; make one with: openssl rand -hex 32, and give the same to the proxy; or set --ingest-socket"
    )]
    NoIngestToken,
    /// Not a server's address.
    #[error("DATABASE_URL: {0}")]
    Postgres(#[from] TargetError),
    /// Not a store.
    #[error("DATABASE_URL: not a store; use a path, sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE")]
    UnknownStore,
    /// It would be lost at the end, and readers could not share it.
    #[error("DATABASE_URL: an in-memory store keeps no audit trail; use a path or sqlite:PATH")]
    InMemory,
    /// No trail.
    #[error("{}: there is no trail; set DATA_DIR to where `serve` has its state", .0.display())]
    NoTrail(PathBuf),
    /// Not a signing key.
    #[error("{name}: {source}")]
    SigningKey {
        /// The variable or file.
        name: String,
        /// What is wrong with it.
        source: NoteError,
    },
    /// A tenant would have too many versions before the first of them may go.
    #[error(
        "KEY_ROTATION: a key has at most {} versions, and the audit trail needs each until its records are gone; rotate every {least} or \
         less often, or shorten AUDIT_RETENTION",
        portcullis_keyring::MAX_VERSIONS
    )]
    TooManyRotations {
        /// The shortest that goes.
        least: String,
    },
    /// Events would vanish at once, or never.
    #[error("AUDIT_RETENTION: must be 1d to 3660d")]
    Retention,
    /// Rules that contradict each other.
    #[error("AUDIT_RETENTION_OF: {0}")]
    RetentionOf(String),
    /// Rules that cannot be used.
    #[error("AUDIT_REDACT_FIELDS, AUDIT_REDACT_HEADERS, AUDIT_REDACT_PATTERNS: {0}")]
    Redaction(#[from] RedactionError),
    /// Half of a pair.
    #[error("{0}: one is set without the other; set both, or neither")]
    HalfTls(&'static str),
    /// The rate limit service beyond the loopback without a token.
    #[error(
        "LIMITS_GRPC_TOKEN: not set, but LIMITS_GRPC_ADDRESS is beyond the loopback; make one with: openssl rand -hex 32, and let Envoy send it as initial_metadata authorization: Bearer ..."
    )]
    NoGrpcToken,
    /// A configuration that nobody reads.
    #[error("LIMITS_CONFIG: is set, but LIMITS_GRPC_PORT is not; set the port, or leave both out")]
    NoGrpcPort,
    /// A webhook that is none.
    #[error("ALERT_WEBHOOK_URL or ALERT_WEBHOOK_SECRET: {0}")]
    Webhook(#[from] alerts::webhook::WebhookError),
    /// Passwords in clear text beyond this machine.
    #[error(
        "PGBOUNCER_TLS_CERT_FILE and PGBOUNCER_TLS_KEY_FILE: not set, but PGBOUNCER_ADDRESS is beyond the loopback; set both, or stay on it"
    )]
    PlainBouncer,
    /// Nothing that certificates could go back to.
    #[error(
        "PGBOUNCER_SERVER_CA_FILE: not set, and the system has no certificates to trust; set it, or PGBOUNCER_SERVER_TLS=require"
    )]
    NoAuthorities,
    /// A place to export to that is none.
    #[error(transparent)]
    Export(#[from] PlaceError),
    /// DATA_DIR cannot be made.
    #[error("DATA_DIR: {}: {source}; set it to a folder that this user may write", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
