//! What PgBouncer reads: `pgbouncer.ini`, the users, the host rules.
//!
//! PgBouncer's own rules of quoting (its `doc/config.md`): a value of a connection string stands in single quotes, in which two of them
//! are one and nothing else is special; names and secrets of users stand in double quotes, likewise. A line ends a value, so control
//! characters are refused.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::Host;

/// Who may use the console.
pub const ADMIN: &str = "portcullis_admin";
/// The console's name among databases.
pub const CONSOLE: &str = "pgbouncer";
/// The longest password that PgBouncer 1.17 takes, less its end.
const MAX_PASSWORD: usize = 2000;

/// Why a tenant is not offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// Its name.
    #[error(
        "PgBouncer takes names of letters, digits and _ . - that are not `{CONSOLE}` or `{ADMIN}`; this tenant is not reached through it"
    )]
    Name,
    /// Nobody could prove who it is.
    #[error(
        "its database_url has no user, or no password, which is what its programs show to PgBouncer; write postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    NoPassword,
    /// A line would end in it.
    #[error(
        "its database_url has a user, password or database with a control character, or one that is too long"
    )]
    Unwritable,
    /// No room under the cap.
    #[error("there are more tenants than PGBOUNCER_CONNECTIONS_MAX; raise it within what the servers take")]
    NoRoom,
}

/// Where the server of a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// An address that was permitted.
    Address(IpAddr),
    /// A folder of a socket.
    Socket(PathBuf),
}

/// A tenant's database, as PgBouncer is to have it. It shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The tenant's name: of the database and of the user.
    pub name: String,
    server: Server,
    port: u16,
    database: String,
    user: String,
    password: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?}:{}", self.name, self.server, self.port)
    }
}

impl Entry {
    /// Of a tenant's address; `resolved` is the permitted address of its host, none for a socket.
    ///
    /// # Errors
    /// [`EntryProblem`].
    pub fn new(
        name: &str,
        config: &tokio_postgres::Config,
        resolved: Option<IpAddr>,
    ) -> Result<Self, EntryProblem> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !name.bytes().all(plain) || name.is_empty() || [CONSOLE, ADMIN].contains(&name) {
            return Err(EntryProblem::Name);
        }
        let (Some(user), Some(password)) = (config.get_user(), config.get_password()) else {
            return Err(EntryProblem::NoPassword);
        };
        let password = std::str::from_utf8(password).map_err(|_| EntryProblem::Unwritable)?;
        let database = config.get_dbname().unwrap_or(user);
        let writable = |text: &str, most: usize| {
            !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
        };
        if !writable(user, 63) || !writable(database, 63) || !writable(password, MAX_PASSWORD) {
            return Err(EntryProblem::Unwritable);
        }
        let server = match (resolved, config.get_hosts().first()) {
            (Some(address), _) => Server::Address(address),
            (None, Some(Host::Unix(folder))) => Server::Socket(folder.clone()),
            (None, _) => return Err(EntryProblem::Unwritable),
        };
        Ok(Self {
            name: name.to_owned(),
            server,
            port: config.get_ports().first().copied().unwrap_or(5432),
            database: database.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    /// The same at another address.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Self {
        Self { server: Server::Address(address), ..self.clone() }
    }

    /// Whether the server is another, or who logs in there: then what is open must end.
    #[must_use]
    pub fn moved(&self, before: &Self) -> bool {
        let of = |entry: &Self| {
            (
                entry.server.clone(),
                entry.port,
                entry.database.clone(),
                entry.user.clone(),
                entry.password.clone(),
            )
        };
        of(self) != of(before)
    }

    fn line(&self, size: usize) -> String {
        let host = match &self.server {
            Server::Address(address) => address.to_string(),
            Server::Socket(folder) => folder.display().to_string(),
        };
        let (host, database, user, password) =
            (quoted(&host), quoted(&self.database), quoted(&self.user), quoted(&self.password));
        format!(
            "{} = host={host} port={} dbname={database} user={user} password={password} pool_size={size} max_db_connections={size}",
            self.name, self.port
        )
    }
}

/// What the users file has of a password: enough to verify it, too little to log in with (RFC 5803).
#[must_use]
pub fn verifier(password: &str) -> String {
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

/// A value of a connection string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// What is the same for all tenants.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where the files are, and the socket.
    pub folder: PathBuf,
    /// Where clients connect to.
    pub address: IpAddr,
    /// The port of both.
    pub port: u16,
    /// `session`, `transaction` or `statement`.
    pub mode: &'static str,
    /// Clients at once.
    pub clients: u32,
    /// How long a client waits for a server.
    pub wait: Duration,
    /// Certificate and key for clients.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How servers that are not reached through a socket are spoken to: `verify-ca`, `require`, `prefer` or `disable`.
    pub server_tls: &'static str,
    /// What servers' certificates must go back to.
    pub authorities: Option<PathBuf>,
    /// What the users file has of the console's password.
    pub admin: String,
}

/// The files, as they are to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Files {
    /// `pgbouncer.ini`.
    pub ini: String,
    /// `users.txt`.
    pub users: String,
    /// `hba.conf`.
    pub rules: String,
}

/// Their names.
pub const INI: &str = "pgbouncer.ini";
/// The users'.
pub const USERS: &str = "users.txt";
/// The host rules'.
pub const RULES: &str = "hba.conf";

impl Frame {
    /// The files for these databases, each with the most connections it has.
    #[must_use]
    pub fn files(&self, entries: &[(Entry, usize)]) -> Files {
        let mut ini = String::from("; Written by portcullis; changes are overwritten.\n[databases]\n");
        let mut users = format!("\"{ADMIN}\" \"{}\"\n", self.admin);
        let mut rules = format!("local \"{CONSOLE}\" \"{ADMIN}\" scram-sha-256\n");
        // Where there is TLS, nobody comes in without it.
        let host = if self.tls.is_some() { "hostssl" } else { "host" };
        for (entry, size) in entries {
            let name = &entry.name;
            // Writing into a String cannot fail. In quotes a name is a name, though it be `all`.
            let _ = writeln!(ini, "{}", entry.line(*size));
            // In clear: PgBouncer would log in to the server with what a verifier gives away of a client's key (SCRAM pass-through, also
            // where the server's user is another), and the server's verifier has a salt of its own. The line above holds it anyway.
            let _ = writeln!(users, "\"{name}\" \"{}\"", entry.password.replace('"', "\"\""));
            let _ = writeln!(rules, "local \"{name}\" \"{name}\" scram-sha-256");
            for everywhere in ["0.0.0.0/0", "::/0"] {
                let _ = writeln!(rules, "{host} \"{name}\" \"{name}\" {everywhere} scram-sha-256");
            }
        }
        let path = |file: &Path| file.display().to_string();
        let in_folder = |name: &str| path(&self.folder.join(name));
        let _ = write!(
            ini,
            "\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir = {}\nunix_socket_mode = 0700\n\
             auth_type = hba\nauth_hba_file = {}\nauth_file = {}\nadmin_users = {ADMIN}\n\
             pool_mode = {}\nmax_client_conn = {}\ndefault_pool_size = 1\nquery_wait_timeout = {}\n\
             server_reset_query = DISCARD ALL\nserver_check_query = select 1\nserver_check_delay = 1\n\
             server_connect_timeout = 5\nserver_login_retry = 1\nserver_idle_timeout = 60\n\
             ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\nlog_stats = 0\n",
            self.address,
            self.port,
            path(&self.folder),
            in_folder(RULES),
            in_folder(USERS),
            self.mode,
            self.clients,
            self.wait.as_secs().max(1),
        );
        let _ = match &self.tls {
            Some((certificate, key)) => write!(
                ini,
                "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
                path(certificate),
                path(key)
            ),
            None => writeln!(ini, "client_tls_sslmode = disable"),
        };
        // An address is what is connected to, so that a certificate's name cannot be compared with it. Sockets are without TLS.
        let _ = writeln!(ini, "server_tls_sslmode = {}", self.server_tls);
        if let Some(file) = &self.authorities {
            let _ = writeln!(ini, "server_tls_ca_file = {}", path(file));
        }
        Files { ini, users, rules }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            folder: "/var/lib/portcullis/pgbouncer".into(),
            address: [127, 0, 0, 1].into(),
            port: 6432,
            mode: "transaction",
            clients: 100,
            wait: Duration::from_secs(30),
            tls: None,
            server_tls: "require",
            authorities: None,
            admin: "SCRAM-SHA-256$...".to_owned(),
        }
    }

    fn entry(name: &str, url: &str) -> Result<Entry, EntryProblem> {
        let config: tokio_postgres::Config = url.parse().unwrap();
        let address =
            matches!(config.get_hosts().first(), Some(Host::Tcp(_))).then_some([192, 0, 2, 7].into());
        Entry::new(name, &config, address)
    }

    #[test]
    fn no_password_leaves_its_line() {
        let url =
            "postgres://o%27brien:a%20b%27%27%20pool_size%3D99%22%5C%23%3B%25@db.example:5433/the%20shop";
        let acme = entry("acme", url).unwrap();
        let files = frame().files(&[(acme, 3)]);
        assert!(files.ini.contains(
            "\nacme = host='192.0.2.7' port=5433 dbname='the shop' user='o''brien' password='a b'''' pool_size=99\"\\#;%' pool_size=3 max_db_connections=3\n"
        ), "{}", files.ini);
        let user = files.users.lines().nth(1).unwrap();
        assert_eq!(user, "\"acme\" \"a b'' pool_size=99\"\"\\#;%\"");
        assert!(files.rules.contains(
            "\nlocal \"acme\" \"acme\" scram-sha-256\nhost \"acme\" \"acme\" 0.0.0.0/0 scram-sha-256\n"
        ));
        assert!(!format!("{:?}", entry("acme", url)).contains("pool_size"), "no password is shown");
    }

    #[test]
    fn what_cannot_be_written_is_not_offered() {
        let url = "postgres://u:secret@db.example/x";
        for name in
            ["", "a b", "a\"b", "a=b", "*", "a;b", "a\nb", "a%b", "pgbouncer", "portcullis_admin", "ä"]
        {
            assert_eq!(entry(name, url), Err(EntryProblem::Name), "{name}");
        }
        for name in ["all", "sameuser", "a.b-c_D9", "replication"] {
            assert!(entry(name, url).is_ok(), "{name}");
        }
        assert_eq!(entry("acme", "postgres://u@db.example/x"), Err(EntryProblem::NoPassword));
        assert_eq!(entry("acme", "postgres://u:a%0Ab@db.example/x"), Err(EntryProblem::Unwritable));
        let long = format!("postgres://u:{}@db.example/x", "a".repeat(MAX_PASSWORD + 1));
        assert_eq!(entry("acme", &long), Err(EntryProblem::Unwritable));
    }

    #[test]
    fn a_size_is_no_move_and_a_password_is() {
        let before = entry("acme", "postgres://u:secret@db.example/x").unwrap();
        assert!(!entry("acme", "postgres://u:secret@db.example/x").unwrap().moved(&before));
        assert!(entry("acme", "postgres://u:other@db.example/x").unwrap().moved(&before));
        assert!(entry("acme", "postgres://u:secret@db.example/y").unwrap().moved(&before));
    }
}
