//! Where a tenant's database may be.
//!
//! Against: an address that makes the companion connect to what is near it and not meant for tenants: itself, the machines around it, a
//! cloud's metadata service. A name is resolved once for each connection, every address that it has must be allowed, and that very address is
//! connected to, so that a name that answers differently the second time gains nothing. A file must be below one folder, links followed. Of
//! the options of a connection only those of [`OPTIONS`] may be given.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_postgres::config::{Host, SslMode};

/// What may stand behind the `?` of an address.
pub const OPTIONS: [&str; 5] =
    ["sslmode", "connect_timeout", "application_name", "channel_binding", "target_session_attrs"];
/// What every session is told. A statement or a forgotten transaction holds no connection for good.
const SESSION: &str =
    "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000 -c lock_timeout=10000";

/// What may be connected to.
#[derive(Clone, Default)]
pub struct Rules {
    /// Addresses that are allowed although they are private.
    pub allowed: Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>,
    /// Folders whose Unix sockets may be used.
    pub sockets: Vec<PathBuf>,
    /// The folder that SQLite files must be below; none: no SQLite.
    pub sqlite: Option<PathBuf>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("sockets", &self.sockets)
            .field("sqlite", &self.sqlite)
            .finish_non_exhaustive()
    }
}

impl Rules {
    /// Whether an address may be connected to.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !is_private(address) || self.allowed.as_ref().is_some_and(|allowed| allowed(address))
    }
}

/// What kind of database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A server of PostgreSQL.
    Postgres,
    /// A file of SQLite.
    Sqlite,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Why an address is not one that may be connected to. It never repeats the address: that holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not an address.
    #[error("not an address of a database; write postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:PATH")]
    Malformed,
    /// An option that is not on the list.
    #[error("the option {0:?} may not be given; those that may are {list}", list = OPTIONS.join(", "))]
    Option(String),
    /// More or fewer than one host.
    #[error("names {0} hosts; name one")]
    Hosts(usize),
    /// No database.
    #[error("names no database; write postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    NoDatabase,
    /// An address that is not for tenants.
    #[error(
        "{0} is a loopback, link-local, metadata or private address; add it to DATABASE_TARGETS_ALLOW if tenants' databases are there"
    )]
    Private(IpAddr),
    /// A socket that is not for tenants.
    #[error("{}: this folder's sockets are not for tenants; add it to DATABASE_TARGETS_ALLOW if their databases are there", .0.display())]
    Socket(PathBuf),
    /// SQLite is not offered.
    #[error(
        "files of SQLite are not offered here; set DATABASE_SQLITE_FOLDER to the folder that they are below"
    )]
    NoSqlite,
    /// A file that is elsewhere, or none.
    #[error("the file is not there, or not below DATABASE_SQLITE_FOLDER; SQLite databases are not made here")]
    Outside,
    /// Not within a runtime; a mistake of the program.
    #[error("a pool needs an asynchronous runtime")]
    NoRuntime,
}

/// A database that may be connected to. It shows no password.
#[derive(Clone)]
pub enum Target {
    /// A server.
    Postgres(Box<tokio_postgres::Config>),
    /// A file.
    Sqlite(PathBuf),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(config) => {
                write!(f, "postgres {:?}, {:?}", config.get_hosts(), config.get_dbname())
            }
            Self::Sqlite(path) => write!(f, "sqlite {}", path.display()),
        }
    }
}

impl Target {
    /// Reads an address and holds it to the rules; names are resolved when a connection is made.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn new(url: &str, rules: &Rules) -> Result<Self, TargetError> {
        let (scheme, rest) = url.split_once(':').ok_or(TargetError::Malformed)?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => file(rest.strip_prefix("//").unwrap_or(rest), rules).map(Self::Sqlite),
            "postgres" | "postgresql" => server(url, rules).map(|config| Self::Postgres(Box::new(config))),
            _ => Err(TargetError::Malformed),
        }
    }

    /// Which database it is: the same for all who name it in the same way.
    pub(super) fn database(&self) -> String {
        match self {
            Self::Postgres(config) => {
                format!("{:?} {:?} {:?}", config.get_hosts(), config.get_ports(), config.get_dbname())
            }
            Self::Sqlite(path) => path.display().to_string(),
        }
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Postgres(_) => Kind::Postgres,
            Self::Sqlite(_) => Kind::Sqlite,
        }
    }
}

/// A file below the folder. Looked at again whenever it is opened: links change.
pub(super) fn file(path: &str, rules: &Rules) -> Result<PathBuf, TargetError> {
    let folder = rules.sqlite.as_ref().ok_or(TargetError::NoSqlite)?;
    let folder = folder.canonicalize().map_err(|_| TargetError::Outside)?;
    let path = folder.join(Path::new(path)).canonicalize().map_err(|_| TargetError::Outside)?;
    (path.starts_with(&folder) && path.is_file()).then_some(path).ok_or(TargetError::Outside)
}

/// The names of a URL's options, where the driver sees them: behind the credentials, in which a `?` may stand as it is.
pub fn options(url: &str) -> impl Iterator<Item = &str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let query = rest.split_once('?').map(|(_, query)| query);
    query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .map(|pair| pair.split('=').next().unwrap_or_default())
}

fn server(url: &str, rules: &Rules) -> Result<tokio_postgres::Config, TargetError> {
    if let Some(name) = options(url).find(|name| !OPTIONS.contains(name)) {
        return Err(TargetError::Option(name.chars().take(40).collect()));
    }
    let mut config: tokio_postgres::Config = url.parse().map_err(|_| TargetError::Malformed)?;
    let [host] = config.get_hosts() else { return Err(TargetError::Hosts(config.get_hosts().len())) };
    if config.get_dbname().is_none() {
        return Err(TargetError::NoDatabase);
    }
    let local = match host {
        Host::Unix(folder) if rules.sockets.contains(folder) => true,
        Host::Unix(folder) => return Err(TargetError::Socket(folder.clone())),
        // Names are looked at when they are resolved, addresses now.
        Host::Tcp(name) => match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !rules.permits(address) => return Err(TargetError::Private(address)),
            Ok(address) => address.is_loopback(),
            Err(_) => false,
        },
    };
    if !options(url).any(|name| name == "sslmode") {
        config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
    }
    if config.get_application_name().is_none() {
        config.application_name("portcullis");
    }
    config.options(SESSION);
    Ok(config)
}

/// Whether an address is not of the public internet: IANA's registries of special-purpose addresses, and those of clouds' own services.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_documentation()
        // "This network", shared address space, IETF protocols, benchmarks, reserved and broadcast.
        || matches!((a, b, c), (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _) | (240.., ..))
        // Azure's platform.
        || address == Ipv4Addr::new(168, 63, 129, 16)
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // NAT64 and 6to4 lead to an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // IPv4-compatible, and all that is local to somebody: unspecified, loopback, local NAT64, discard, Teredo.
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] | [0x100, 0, 0, 0, ..] | [0x2001, 0, ..] => true,
        // Unique local, link-local, site-local, multicast, documentation.
        _ => {
            a & 0xfe00 == 0xfc00
                || a & 0xffc0 == 0xfe80
                || a & 0xffc0 == 0xfec0
                || a & 0xff00 == 0xff00
                || (a == 0x2001 && b == 0xdb8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> TargetError {
        Target::new(url, &Rules::default()).expect_err(url)
    }

    #[test]
    fn what_is_near_the_companion_is_refused_unless_it_is_allowed() {
        for host in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "168.63.129.16",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[::7f00:1]",
            "255.255.255.255",
        ] {
            let url = format!("postgres://u:hunter2@{host}/db");
            let error = refused(&url);
            assert!(matches!(error, TargetError::Private(_)), "{host}: {error}");
            assert!(!error.to_string().contains("hunter2"));
            let allowed = Rules { allowed: Some(Arc::new(|_| true)), ..Rules::default() };
            assert!(Target::new(&url, &allowed).is_ok(), "{host}");
        }
        for host in ["198.51.101.1", "8.8.8.8", "[2a00:1450::1]", "db.example", "172.32.0.1", "100.128.0.1"] {
            assert!(Target::new(&format!("postgres://u@{host}/db"), &Rules::default()).is_ok(), "{host}");
        }
    }

    #[test]
    fn only_known_options_one_host_and_allowed_sockets() {
        assert_eq!(refused("postgres://u@db/x?options=-csearch_path"), TargetError::Option("options".into()));
        assert_eq!(refused("postgres://u@db/x?hostaddr=127.0.0.1"), TargetError::Option("hostaddr".into()));
        assert_eq!(refused("postgres://u@a,b/x"), TargetError::Hosts(2));
        assert_eq!(refused("postgres://u@db"), TargetError::NoDatabase);
        assert_eq!(refused("mysql://u@db/x"), TargetError::Malformed);
        let socket = "postgres://u@%2Frun%2Fpg/x";
        assert_eq!(refused(socket), TargetError::Socket("/run/pg".into()));
        let rules = Rules { sockets: vec!["/run/pg".into()], ..Rules::default() };
        assert!(Target::new(socket, &rules).is_ok());
        let Target::Postgres(config) =
            Target::new("postgres://u@db/x?connect_timeout=3&sslmode=require", &rules).unwrap()
        else {
            panic!("a server")
        };
        assert!(config.get_options().unwrap().contains("statement_timeout"));
        assert!(!format!("{:?}", Target::Postgres(config)).contains("hunter2"));
    }

    #[test]
    fn what_stands_in_a_password_is_no_option() {
        let mode = |url: &str| match Target::new(url, &Rules::default()).unwrap() {
            Target::Postgres(config) => config.get_ssl_mode(),
            Target::Sqlite(_) => panic!("a server"),
        };
        assert_eq!(mode("postgres://u:sslmode=x@db.example/x"), SslMode::Require);
        assert_eq!(mode("postgres://u:a?sslmode=disable&b@db.example/x"), SslMode::Require);
        assert_eq!(mode("postgres://u:p@db.example/x?application_name=sslmode="), SslMode::Require);
        assert_eq!(mode("postgres://u:p@db.example/x?connect_timeout=3&sslmode=prefer"), SslMode::Prefer);
        let hidden = "postgres://u:a?sslmode=@db.example/x?hostaddr=127.0.0.1";
        assert_eq!(refused(hidden), TargetError::Option("hostaddr".into()));
    }

    #[test]
    fn a_file_is_below_its_folder_whatever_links_say() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let rules = Rules { sqlite: Some(folder.path().into()), ..Rules::default() };
        for place in [folder.path(), outside.path()] {
            std::fs::write(place.join("a.db"), "").unwrap();
        }
        std::os::unix::fs::symlink(outside.path().join("a.db"), folder.path().join("link.db")).unwrap();
        assert!(Target::new("sqlite:a.db", &rules).is_ok());
        assert!(Target::new(&format!("sqlite:{}", folder.path().join("a.db").display()), &rules).is_ok());
        for bad in ["link.db", "none.db", ".", "../a.db", outside.path().join("a.db").to_str().unwrap()] {
            assert_eq!(
                Target::new(&format!("sqlite:{bad}"), &rules).unwrap_err(),
                TargetError::Outside,
                "{bad}"
            );
        }
        assert_eq!(refused("sqlite:a.db"), TargetError::NoSqlite);
    }
}
