//! What `portcullis serve` takes.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::{AlertArgs, BouncerArgs, DatabasesArgs, ExportArgs, StoreArgs};
use crate::http::access::Network;
use crate::keys::Rotation;
use crate::trail::retention::TenantRule;
use crate::units;

/// What `portcullis serve --help` adds.
pub const SERVE_HELP: &str = "\
Secrets come from the environment alone:
  SECRET_KEY               signs the API's tokens; at least 32 bytes. Make one: openssl rand -hex 32
  PORTCULLIS_INGEST_TOKEN  what a module must show to deliver records; at least 16 bytes
  AUDIT_SIGNING_KEY        signs the audit trail's checkpoints: 64 hexadecimal digits; left out, it is made once and
                           kept in DATA_DIR/audit-signing-key (mode 0600)
  AUDIT_REDACTION_KEY      the hashes of redacted values; at least 32 bytes; left out, made once and kept in
                           DATA_DIR/audit-redaction-key
  ALERT_WEBHOOK_SECRET     what messages to ALERT_WEBHOOK_URL are signed with: echo whsec_$(openssl rand -base64 32)
  LIMITS_GRPC_TOKEN        what a caller of the rate limit service must show; needed beyond the loopback
  EXPORT_OTLP_HEADERS      for the collector, like an API key's: name=value, with commas between them
  ENCRYPTION_KEY           the root of all tenants' keys; at least 32 random bytes, made the same way. Keep a copy: without it
                           nothing that was sealed is ever read again. ENCRYPTION_KEY_FILE names a file (mode 0600) instead
  ENCRYPTION_KEY_PREVIOUS  the one before, until `portcullis keys rewrap --all` is done; or ENCRYPTION_KEY_PREVIOUS_FILE
  ENCRYPTION_KEY_SERVICE   instead of ENCRYPTION_KEY: Vault's or OpenBao's Transit keeps the root, https://HOST[:8200]/MOUNT/KEY,
                           with ENCRYPTION_KEY_SERVICE_TOKEN_FILE (mode 0600, read for every call) or ..._TOKEN, and
                           ENCRYPTION_KEY_SERVICE_CA_FILE for certificates that the system does not trust
  ENCRYPTION_KEY_PREVIOUS_SERVICE  the way back: ENCRYPTION_KEY set, the service here, until `keys rewrap --all` is done
With --demonstration a missing SECRET_KEY, ENCRYPTION_KEY or PORTCULLIS_INGEST_TOKEN is made once and kept in
DATA_DIR/secret-key, DATA_DIR/encryption-key and DATA_DIR/ingest-token (mode 0600).
PORTCULLIS_LOG sets the log's level (error, warn, info, debug) against ENVIRONMENT's choice.

Try it:
  portcullis serve --demonstration &
  curl -H \"Authorization: Bearer $(portcullis token)\" http://127.0.0.1:8000/api/security/status";

/// How long events are kept.
#[derive(Debug, Clone, Args)]
pub struct RetentionArgs {
    /// How long events are kept: 1d to 3660d
    #[arg(long, env = "AUDIT_RETENTION", default_value = "90d", value_parser = units::duration, value_name = "DURATION")]
    pub audit_retention: Duration,
    /// The newest bytes of a tenant that the audit trail keeps; left out: all that are young enough
    #[arg(long, env = "AUDIT_TENANT_MAX_BYTES", value_parser = clap::value_parser!(u64).range(1024..), value_name = "BYTES")]
    pub audit_tenant_max_bytes: Option<u64>,
    /// What is kept of some tenants in the audit trail instead: TENANT=AGE or TENANT=AGE/BYTES, several with commas
    #[arg(long, env = "AUDIT_RETENTION_OF", value_delimiter = ',', value_name = "RULES")]
    pub audit_retention_of: Vec<TenantRule>,
}

/// What `serve` takes.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// The address of both listeners; leave the loopback only with TLS, here or at a proxy in front
    #[arg(long, env = "COMPANION_ADDRESS", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub address: IpAddr,
    /// The API's port; 0 takes a free one
    #[arg(long, env = "COMPANION_PORT", default_value_t = 8000)]
    pub port: u16,
    /// The ingest listener's port, for modules only
    #[arg(long, env = "INGEST_PORT", default_value_t = 8001)]
    pub ingest_port: u16,
    /// Listen for modules on this Unix socket (mode 0600) instead of INGEST_PORT
    #[arg(long, env = "INGEST_SOCKET", value_name = "PATH")]
    pub ingest_socket: Option<PathBuf>,
    /// Certificates and keys.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Where tokens of the admin scope may be used from: 10.0.0.0/8, 2001:db8::/32, one address, several with commas; left out:
    /// from everywhere
    #[arg(long, env = "ADMIN_ALLOW", value_delimiter = ',', value_name = "ADDRESSES")]
    pub admin_allow: Vec<Network>,
    /// Where state lies, and the store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How long events are kept.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// How old a tenant's key may become before a new version is made: 1h to 3660d; `off`: only by command
    #[arg(long, env = "KEY_ROTATION", default_value = "90d", value_name = "DURATION")]
    pub key_rotation: Rotation,
    /// Fields of events (columns or details, at any depth) whose value gives way to a keyed hash before anything is written;
    /// those that are known to hold credentials always lose theirs
    #[arg(long, env = "AUDIT_REDACT_FIELDS", value_delimiter = ',', value_name = "NAMES")]
    pub audit_redact_fields: Vec<String>,
    /// The same for headers that an application reports
    #[arg(long, env = "AUDIT_REDACT_HEADERS", value_delimiter = ',', value_name = "NAMES")]
    pub audit_redact_headers: Vec<String>,
    /// The same for what a pattern finds in any text: a JSON array of regular expressions
    #[arg(long, env = "AUDIT_REDACT_PATTERNS", value_name = "JSON")]
    pub audit_redact_patterns: Option<String>,
    /// The largest the audit trail may grow, all its files together; beyond it batches are refused, modules keep them within
    /// their bound and report what they had to drop
    #[arg(long, env = "AUDIT_MAX_BYTES", default_value_t = 20 * 1024 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1024 * 1024..), value_name = "BYTES")]
    pub audit_max_bytes: u64,
    /// The store's largest file; what a full store does not take waits in the audit trail
    #[arg(long, env = "DATABASE_MAX_BYTES", default_value_t = 10 * 1024 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1024 * 1024..), value_name = "BYTES")]
    pub database_max_bytes: u64,
    /// Connections to a PostgreSQL server that are kept; to the store, and at most to each tenant's database
    #[arg(long, env = "DATABASE_POOL_SIZE", default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=500))]
    pub database_pool_size: u16,
    /// Further connections while those are busy; they end when they were not used for ten seconds
    #[arg(long, env = "DATABASE_MAX_OVERFLOW", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=500))]
    pub database_max_overflow: u16,
    /// Seconds that a request waits for a connection; then it is answered 503: 1 to 300
    #[arg(long, env = "DATABASE_POOL_TIMEOUT", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=300), value_name = "SECONDS")]
    pub database_pool_timeout: u16,
    /// The tenants' databases.
    #[command(flatten)]
    pub databases: DatabasesArgs,
    /// Alerts.
    #[command(flatten)]
    pub alerts: AlertArgs,
    /// PgBouncer.
    #[command(flatten)]
    pub bouncer: BouncerArgs,
    /// Where the audit trail is exported to.
    #[command(flatten)]
    pub exports: ExportArgs,
    /// The log's file, rotated at 10 MB, with ten older ones kept; `none` writes to standard error alone [default:
    /// DATA_DIR/logs/portcullis.log]
    #[arg(long, env = "LOG_FILE", value_name = "PATH")]
    pub log_file: Option<PathBuf>,
    /// Chooses the log's level: development debug, staging and production info
    #[arg(long, env = "ENVIRONMENT", value_enum, default_value_t = Environment::Production)]
    pub environment: Environment,
    /// false: the companion's own limits and checks let everything pass (leases, rate limit checks, the rate limit service,
    /// passwords), and /api/security/status says so. Tokens, sessions and ext_authz are checked all the same, and modules do
    /// what their own configuration says
    #[arg(long, env = "SECURITY_ENABLED", default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set, value_name = "BOOL")]
    pub security_enabled: bool,
    /// false: tenants' databases are neither watched nor looked through, and /api/security/status says so; their pools stay
    #[arg(long, env = "DATABASE_OPTIMIZATION_ENABLED", default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set, value_name = "BOOL")]
    pub database_optimization_enabled: bool,
    /// Count limits in Redis, for several companions, instead of in this process: redis://HOST:PORT
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,
    /// The part of each limit that modules with `on_error: local_share` spend without tokens: their `share`
    #[arg(long, env = "LIMITS_SHARE", default_value = "0%", value_name = "PERCENT")]
    pub limits_share: crate::limits::LocalShare,
    /// Serve Envoy's own rate limit service (gRPC) on this port; 0 takes a free one. Left out: it is not served
    #[arg(long, env = "LIMITS_GRPC_PORT", value_name = "PORT")]
    pub limits_grpc_port: Option<u16>,
    /// The address of that service; beyond the loopback it asks for LIMITS_GRPC_TOKEN
    #[arg(long, env = "LIMITS_GRPC_ADDRESS", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub limits_grpc_address: IpAddr,
    /// Domains and descriptors in the format of envoyproxy/ratelimit: a YAML or JSON file, or a folder of them
    #[arg(long, env = "LIMITS_CONFIG", value_name = "PATH")]
    pub limits_config: Option<PathBuf>,
    /// Whether that service adds ratelimit-limit, ratelimit-remaining, ratelimit-reset, and on a refusal retry-after
    #[arg(long, env = "LIMIT_RESPONSE_HEADERS_ENABLED", default_value = "false", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set, value_name = "BOOL")]
    pub limit_response_headers_enabled: bool,
    /// API calls a minute, of a tenant without a policy of its own: 0 (none) to 1000000
    #[arg(long, env = "RATE_LIMIT_API_CALLS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub rate_limit_api_calls: u32,
    /// Login attempts a minute, of each user of a tenant without a policy of its own: 0 (none) to 1000000
    #[arg(long, env = "RATE_LIMIT_LOGIN_ATTEMPTS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub rate_limit_login_attempts: u32,
    /// File uploads a minute, of each user of a tenant without a policy of its own: 0 (none) to 1000000
    #[arg(long, env = "RATE_LIMIT_FILE_UPLOADS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub rate_limit_file_uploads: u32,
    /// For trying out, never for real traffic: tenants register themselves, missing keys are made
    #[arg(long)]
    pub demonstration: bool,
}

/// Certificates and keys, PEM. They are read at the start.
#[derive(Debug, Clone, Args)]
pub struct TlsArgs {
    /// The API's certificate and what it was signed with; the API then speaks TLS alone
    #[arg(long, env = "TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// The same for INGEST_PORT
    #[arg(long, env = "INGEST_TLS_CERT_FILE", value_name = "FILE")]
    pub ingest_tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "INGEST_TLS_KEY_FILE", value_name = "FILE")]
    pub ingest_tls_key_file: Option<PathBuf>,
    /// Take records only from those whose certificate one of these has signed; then no ingest token is needed
    #[arg(long, env = "INGEST_CLIENT_CA_FILE", value_name = "FILE")]
    pub ingest_client_ca_file: Option<PathBuf>,
}

/// Where the companion runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// A developer's machine.
    Development,
    /// Like production, with test data.
    Staging,
    /// The real thing.
    Production,
}
