//! A message to somebody else's server: signed, and only where it may go.
//!
//! Signed as Standard Webhooks has it (standardwebhooks.com, 1.0): `webhook-id` is the same for every try of a message, so that who receives it can
//! tell a repetition; `webhook-timestamp` keeps an old one from being sent again; `webhook-signature` is HMAC-SHA256 over both and the body.
//!
//! Against: an address that leads to what is near the companion and not meant for it (itself, its network, a cloud's metadata service), by
//! number, by a name, or by a name that answers differently the second time: it is resolved once for each message, every address
//! that it has must be allowed, and that very address is connected to. Redirects are not followed. Plain HTTP goes only to addresses
//! that an operator has allowed by name.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use portcullis_database::pool::target::Rules;
use portcullis_export::http::Client;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::config::Webhook;
use crate::http::access::Network;
use crate::secret::random_hex;

/// How long a name may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(5);
const MAX_URL: usize = 2000;
/// Bytes of a secret, as Standard Webhooks has them.
const SECRET: std::ops::RangeInclusive<usize> = 24..=64;
const PREFIX: &str = "whsec_";

/// Why a webhook is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The address.
    #[error(
        "url: write https://HOST[:PORT]/PATH, at most {MAX_URL} characters, without user, password and #"
    )]
    Url,
    /// The secret.
    #[error(
        "secret: write {PREFIX} and the base64 of 24 to 64 random bytes: echo {PREFIX}$(openssl rand -base64 32)"
    )]
    Secret,
}

/// Where a message goes. It shows host and port, never the path, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: String,
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "https" } else { "http" }, self.host, self.port)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Target {
    /// Reads an address.
    ///
    /// # Errors
    /// [`WebhookError::Url`].
    pub fn new(url: &str) -> Result<Self, WebhookError> {
        if url.len() > MAX_URL || url.contains(['#', '\\', '"']) {
            return Err(WebhookError::Url);
        }
        let authority =
            url.split("://").nth(1).and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
        if authority.contains('@') || url.split("://").nth(1).is_some_and(|rest| rest.starts_with('?')) {
            return Err(WebhookError::Url);
        }
        let port = if url.starts_with("https://") { 443 } else { 80 };
        let client = Client::new(url, port, &[]).map_err(|_| WebhookError::Url)?;
        let address = client.address();
        if address.host.contains('?') {
            return Err(WebhookError::Url);
        }
        let path = if address.path.is_empty() { "/" } else { &address.path };
        Ok(Self {
            url: url.to_owned(),
            tls: address.tls,
            host: address.host.clone(),
            port: address.port,
            path: path.to_owned(),
        })
    }

    /// The whole address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// What messages are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Zeroizing<Vec<u8>>);

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SigningSecret {
    /// Reads one.
    ///
    /// # Errors
    /// [`WebhookError::Secret`].
    pub fn new(text: &str) -> Result<Self, WebhookError> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        bytes
            .map(Zeroizing::new)
            .filter(|bytes| SECRET.contains(&bytes.len()))
            .map(Self)
            .ok_or(WebhookError::Secret)
    }

    /// Makes one.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new(vec![0_u8; 32]);
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// As it is written.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.0.as_slice()))
    }

    /// The signature of a message.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // HMAC takes a key of any length.
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0) else { return String::new() };
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Addresses of a name, later.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Who knows names.
pub trait Resolve: Send + Sync {
    /// All addresses of a name.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// The system.
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Undelivered {
    /// What happened, and what to do.
    pub reason: String,
    /// Not before that, if the other side says so.
    pub retry_after: Option<Duration>,
}

impl Undelivered {
    fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry_after: None }
    }
}

/// What may be connected to, and how.
#[derive(Clone)]
pub struct Guard {
    /// Private addresses that may be: ALERT_TARGETS_ALLOW.
    pub networks: Vec<Network>,
    /// Who knows names.
    pub resolver: Arc<dyn Resolve>,
    /// Certificates that others' must go back to, in place of the system's: ALERT_CA_FILE.
    pub authorities: Option<PathBuf>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("networks", &self.networks).finish_non_exhaustive()
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self { networks: Vec::new(), resolver: Arc::new(System), authorities: None }
    }
}

impl Guard {
    /// The address that a target is at, if all that it has may be connected to.
    async fn address(&self, target: &Target) -> Result<SocketAddr, Undelivered> {
        let resolved = tokio::time::timeout(RESOLVE, self.resolver.resolve(&target.host, target.port)).await;
        let found = match resolved {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                return Err(Undelivered::because(format!("{}: cannot be resolved: {error}", target.host)));
            }
            Err(_) => return Err(Undelivered::because(format!("{}: not resolved within 5 s", target.host))),
        };
        let rules = Rules::default();
        for address in &found {
            let number = address.ip().to_canonical();
            let allowed = self.networks.iter().any(|network| network.contains(number));
            if !allowed && !rules.permits(number) {
                return Err(Undelivered::because(format!(
                    "{number} is a loopback, link-local, metadata or private address; add it to ALERT_TARGETS_ALLOW if alerts are to go there"
                )));
            }
            if !allowed && !target.tls {
                return Err(Undelivered::because(format!(
                    "http:// goes only to addresses of ALERT_TARGETS_ALLOW, and {number} is none; write https://"
                )));
            }
        }
        let first = found.first().copied();
        first.ok_or_else(|| Undelivered::because(format!("{}: has no address", target.host)))
    }

    /// Sends one message; `timestamp` in seconds since the Unix epoch.
    ///
    /// # Errors
    /// It was not taken: any answer but 2xx, or none.
    pub async fn deliver(
        &self,
        webhook: &Webhook,
        id: &str,
        timestamp: i64,
        body: Vec<u8>,
    ) -> Result<(), Undelivered> {
        let target = &webhook.target;
        let address = self.address(target).await?;
        let headers = [
            ("user-agent".to_owned(), concat!("portcullis/", env!("CARGO_PKG_VERSION")).to_owned()),
            ("webhook-id".to_owned(), id.to_owned()),
            ("webhook-timestamp".to_owned(), timestamp.to_string()),
            ("webhook-signature".to_owned(), webhook.secret.sign(id, timestamp, &body)),
        ];
        let client = Client::new(&target.url, target.port, &headers);
        let mut client = client.map_err(|error| Undelivered::because(error.to_string()))?.pinned(address);
        if let Some(file) = &self.authorities {
            client = client.trusting(file);
        }
        let sent =
            client.send(hyper::Method::POST, &target.path, "application/json", Bytes::from(body)).await;
        let answer = sent.map_err(|error| Undelivered::because(format!("{target}: {error}")))?;
        match answer.status {
            200..=299 => Ok(()),
            300..=399 => Err(Undelivered::because(format!(
                "{target} answered {}: redirects are not followed; name the place itself",
                answer.status
            ))),
            status => Err(Undelivered {
                reason: format!("{target} answered {status}"),
                retry_after: answer.retry_after,
            }),
        }
    }
}

/// A name for something new.
///
/// # Errors
/// The system has no random bytes.
pub fn fresh_id() -> Result<String, getrandom::Error> {
    random_hex::<8>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_standard() {
        // The example of the specification's reference libraries.
        let secret = SigningSecret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(SigningSecret::new(&secret.text()), Ok(secret));
        assert!(SigningSecret::new(&SigningSecret::random().unwrap().text()).is_ok());
        for bad in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_???"] {
            assert_eq!(SigningSecret::new(bad), Err(WebhookError::Secret), "{bad}");
        }
    }

    #[test]
    fn addresses_are_read_and_show_no_path() {
        let target = Target::new("https://hooks.example/T0/B0/secret?x=1").unwrap();
        assert_eq!(format!("{target} {target:?}"), "https://hooks.example:443 https://hooks.example:443");
        assert_eq!(target.path, "/T0/B0/secret?x=1");
        assert_eq!(Target::new("http://[::1]:8080").unwrap().path, "/");
        for bad in [
            "",
            "hooks.example",
            "ftp://a/",
            "https://",
            "https://user:pw@a/",
            "https://a/#b",
            "https://a b/",
            "https://a?b",
            "https://a:99999/",
            "https://a\\b/",
            "file:///etc/passwd",
        ] {
            assert_eq!(Target::new(bad), Err(WebhookError::Url), "{bad}");
        }
    }

    struct Fixed(Vec<SocketAddr>);

    impl Resolve for Fixed {
        fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
            Box::pin(async { Ok(self.0.clone()) })
        }
    }

    #[tokio::test]
    async fn one_private_address_of_many_is_too_many() {
        for (url, addresses, said) in [
            ("https://a", "8.8.8.8:1", ""),
            ("https://a", "8.8.8.8:1 127.0.0.1:1", "loopback"),
            ("https://a", "169.254.169.254:1", "metadata"),
            ("https://a", "[::ffff:10.1.1.1]:1", "private"),
            ("https://a", "[fd00::1]:1", "private"),
            ("https://a", "192.0.2.9:1", ""),
            ("http://a", "192.0.2.9:1", ""),
            ("http://a", "8.8.8.8:1", "https://"),
            ("https://a", "", "no address"),
        ] {
            let guard = Guard {
                networks: vec!["192.0.2.0/24".parse().unwrap()],
                resolver: Arc::new(Fixed(
                    addresses.split_whitespace().map(|text| text.parse().unwrap()).collect(),
                )),
                authorities: None,
            };
            match guard.address(&Target::new(url).unwrap()).await {
                Ok(_) => assert_eq!(said, "", "{url} {addresses}"),
                Err(error) => {
                    assert!(!said.is_empty() && error.reason.contains(said), "{addresses}: {error}")
                }
            }
        }
    }
}
