//! Connections: TCP, or TLS with the system's certificates or those of a file.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Where systems keep the certificates that they trust.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address; write {0}")]
pub struct AddressError(pub &'static str);

/// Where a collector is. What it shows of itself is host and port, never a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Spoken to over TLS.
    pub tls: bool,
    /// Its name or number.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `user:password`, or a token.
    pub(crate) user_info: Option<String>,
    /// From the first slash on; may be empty.
    pub path: String,
    /// The certificates that its own must go back to, PEM; none: the system's.
    pub(crate) authorities: Option<PathBuf>,
    /// What is connected to instead of what the name leads to at that moment.
    pub(crate) pinned: Option<SocketAddr>,
}

impl Address {
    /// Reads `scheme://[user:password@]host[:port][/path]`; `schemes` are the plain one and that of TLS.
    pub(crate) fn parse(
        text: &str,
        schemes: [&str; 2],
        port: u16,
        form: &'static str,
    ) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError(form))?;
        let tls = match schemes.iter().position(|known| *known == scheme) {
            Some(at) => at == 1,
            None => return Err(AddressError(form)),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user_info, place) = match authority.rsplit_once('@') {
            Some((info, place)) => (Some(info.to_owned()), place),
            None => (None, authority),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, digits)) if !digits.contains(']') => {
                (host, digits.parse().map_err(|_| AddressError(form))?)
            }
            _ => (place, port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let plain = |text: &str| text.chars().all(|char| char.is_ascii_graphic());
        if host.is_empty() || !plain(&host) || !plain(path) {
            return Err(AddressError(form));
        }
        Ok(Self { tls, host, port, user_info, path: path.to_owned(), authorities: None, pinned: None })
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> io::Result<Stream> {
        let stream = self.connect_plain().await?;
        if self.tls { self.secure(stream).await } else { Ok(Box::new(stream)) }
    }

    pub(crate) async fn connect_plain(&self) -> io::Result<TcpStream> {
        let stream = match self.pinned {
            Some(address) => TcpStream::connect(address).await?,
            None => TcpStream::connect((self.host.as_str(), self.port)).await?,
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(crate) async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(connector(self.authorities.as_deref())?.connect(name, stream).await?))
    }
}

fn connector(authorities: Option<&Path>) -> io::Result<TlsConnector> {
    let system = || SYSTEM_ROOTS.into_iter().map(Path::new).find(|path| path.exists());
    let path = authorities.or_else(system);
    let path = path.ok_or_else(|| io::Error::other("the system has no certificates to trust"))?;
    let unreadable =
        |error: &dyn fmt::Display| io::Error::other(format!("certificates of {}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(&error))?;
    if roots.add_parsable_certificates(found).0 == 0 {
        return Err(unreadable(&"none in PEM"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A byte stream of either kind.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

pub(crate) type Stream = Box<dyn Bytes>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_show_no_password() {
        let read = |text: &str| Address::parse(text, ["http", "https"], 4318, "http://HOST:PORT");
        let plain = read("http://collector").unwrap();
        assert_eq!(
            (plain.tls, plain.host.as_str(), plain.port, plain.path.as_str()),
            (false, "collector", 4318, "")
        );
        let whole = read("https://user:hunter2@[::1]:8443/v1/logs").unwrap();
        assert_eq!(
            (whole.tls, whole.host.as_str(), whole.port, whole.path.as_str()),
            (true, "::1", 8443, "/v1/logs")
        );
        assert!(!format!("{whole:?} {whole}").contains("hunter2"));
        for bad in
            ["", "collector", "ftp://x", "http://", "http://x:port", "http://a b", "http://x/\r\nhost: y"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
