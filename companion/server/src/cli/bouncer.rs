//! What `serve` is told of PgBouncer.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// When a server is given to another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// After each transaction.
    Transaction,
    /// After each statement.
    Statement,
}

impl PoolMode {
    /// As PgBouncer has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// How PgBouncer speaks to servers that are not reached through a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServerTls {
    /// TLS, with a certificate that goes back to PGBOUNCER_SERVER_CA_FILE.
    VerifyCa,
    /// TLS with any certificate.
    Require,
    /// TLS where the server has it.
    Prefer,
    /// No TLS.
    Disable,
}

impl ServerTls {
    /// As PgBouncer has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VerifyCa => "verify-ca",
            Self::Require => "require",
            Self::Prefer => "prefer",
            Self::Disable => "disable",
        }
    }
}

/// PgBouncer.
#[derive(Debug, Clone, Args)]
pub struct BouncerArgs {
    /// Manage a PgBouncer (1.17 or newer) for the tenants' databases: the program, which is started and looked after, or `outside`
    /// for one that somebody else starts with PGBOUNCER_FOLDER/pgbouncer.ini. Left out: there is none
    #[arg(long, env = "PGBOUNCER", value_name = "PROGRAM")]
    pub pgbouncer: Option<PathBuf>,
    /// Its files and its socket; as root PgBouncer is run as the folder's owner [default: DATA_DIR/pgbouncer]
    #[arg(long, env = "PGBOUNCER_FOLDER", value_name = "FOLDER")]
    pub pgbouncer_folder: Option<PathBuf>,
    /// Where tenants' programs connect to; beyond the loopback only with PGBOUNCER_TLS_CERT_FILE
    #[arg(long, env = "PGBOUNCER_ADDRESS", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub pgbouncer_address: IpAddr,
    /// The port
    #[arg(long, env = "PGBOUNCER_PORT", default_value_t = 6432, value_parser = clap::value_parser!(u16).range(1..))]
    pub pgbouncer_port: u16,
    /// When a server is given to another client
    #[arg(long, env = "PGBOUNCER_POOL_MODE", value_enum, default_value_t = PoolMode::Transaction)]
    pub pgbouncer_pool_mode: PoolMode,
    /// Connections to all servers together; beside DATABASE_CONNECTIONS_MAX, which the companion's own pools have
    #[arg(long, env = "PGBOUNCER_CONNECTIONS_MAX", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub pgbouncer_connections_max: u16,
    /// Clients at once
    #[arg(long, env = "PGBOUNCER_CLIENTS_MAX", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub pgbouncer_clients_max: u32,
    /// Its certificate for clients, who then must speak TLS
    #[arg(long, env = "PGBOUNCER_TLS_CERT_FILE", value_name = "FILE")]
    pub pgbouncer_tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "PGBOUNCER_TLS_KEY_FILE", value_name = "FILE")]
    pub pgbouncer_tls_key_file: Option<PathBuf>,
    /// How it speaks to servers that are not reached through a socket
    #[arg(long, env = "PGBOUNCER_SERVER_TLS", value_enum, default_value_t = ServerTls::VerifyCa)]
    pub pgbouncer_server_tls: ServerTls,
    /// Certificates (PEM) that servers' must go back to [default: the system's]
    #[arg(long, env = "PGBOUNCER_SERVER_CA_FILE", value_name = "FILE")]
    pub pgbouncer_server_ca_file: Option<PathBuf>,
}
