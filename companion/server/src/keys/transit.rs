//! The root key in a service that never gives it away: the Transit engine of Vault or OpenBao, over its HTTP API.
//!
//! `POST /v1/MOUNT/encrypt/KEY` wraps a tenant's key, `/decrypt/KEY` unwraps it, `GET /v1/MOUNT/keys/KEY` tells the newest version
//! of the service's key. Tenant and version of what is wrapped go along as associated data, so a wrapped key that changes places
//! in the store is refused by the service; [`Transit::verify`] finds a server that is too old to heed them.
//!
//! Against: a stolen store and a stolen configuration (the token can be revoked, and every use is in the service's own
//! audit log). Not against: who has this process's memory; unwrapped keys are kept there ([`super::CACHED_KEYS`]), which is why
//! the service is not on the path of a seal and may be away for a while. Copies of a key in the buffers of the HTTP client are
//! not wiped. Limits: [`DEADLINE`] for a call, [`CONNECTIONS`] calls at once and as many again that wait, 64 KiB an answer.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use portcullis_export::http::{Answer, Client};
use portcullis_keyring::{Key, KeyName, KeyService, ServiceError, Tenant};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// How long a call may take.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Calls at once.
pub const CONNECTIONS: usize = 16;
/// The port of Vault and OpenBao.
const PORT: u16 = 8200;
/// What every ciphertext of Transit begins with, of OpenBao's too.
const MARK: &[u8] = b"vault:v";
/// What the associated data of a wrapped key begin with.
const LABEL: &[u8] = b"portcullis key v1";
/// As much of what the service says is told on.
const WORDS: usize = 200;
/// The shortest token that is taken for one.
const MIN_TOKEN_BYTES: usize = 4;

/// Where the token is.
#[derive(Clone, Debug)]
pub enum Token {
    /// Given as it is.
    Given(Secret),
    /// In a file of mode 0600 that is read for every call, so that whoever renews the token need not start us anew.
    File(PathBuf),
}

/// The service's key, and the way to it.
pub struct Transit {
    way: Arc<Way>,
    asks: mpsc::Sender<Ask>,
}

/// Where the key is.
struct Way {
    url: String,
    mount: String,
    key: String,
    token: Token,
    authorities: Option<PathBuf>,
    /// Connections that nobody uses, with the token that they show.
    idle: Mutex<Vec<(Zeroizing<String>, Client)>>,
}

/// A call under way.
struct Ask {
    method: Method,
    path: String,
    body: Bytes,
    answer: SyncSender<Result<Answer, ServiceError>>,
}

/// Whether bytes of the store were wrapped by such a service.
#[must_use]
pub fn has_wrapped(wrapped: &[u8]) -> bool {
    wrapped.starts_with(MARK)
}

impl Transit {
    /// The key at `https://HOST[:8200]/MOUNT/KEY`; plain `http` on this machine alone. Nothing is asked yet.
    ///
    /// # Errors
    /// In words, without the variable's name: what cannot be.
    pub fn new(url: &str, token: Token, authorities: Option<&Path>) -> Result<Self, String> {
        const FORM: &str =
            "write https://HOST[:8200]/MOUNT/KEY, like https://vault.example/transit/portcullis";
        let client = Client::new(url, PORT, &[]).map_err(|_| format!("not an address; {FORM}"))?;
        let address = client.address();
        if url.contains('@') {
            return Err(format!("holds a name or password, which it does not use; {FORM}"));
        }
        if !address.tls && !is_loopback(&address.host) {
            return Err("keys would cross the network in plain; write https://".to_owned());
        }
        let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.' | '/');
        let (mount, key) = address.path.trim_matches('/').rsplit_once('/').unwrap_or_default();
        let parts = || mount.split('/').chain([key]);
        if !parts().all(|part| !part.is_empty() && part.chars().all(plain) && !matches!(part, "." | "..")) {
            return Err(format!("names no mount and key; {FORM}"));
        }
        let way = Arc::new(Way {
            url: url.to_owned(),
            mount: mount.to_owned(),
            key: key.to_owned(),
            token,
            authorities: authorities.map(Path::to_owned),
            idle: Mutex::default(),
        });
        let (asks, asked) = mpsc::channel(CONNECTIONS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let serves = Arc::clone(&way);
        // A thread of its own: who asks may be any thread that may block, within a runtime or not.
        std::thread::Builder::new()
            .name("key-service".to_owned())
            .spawn(move || runtime.block_on(serve(serves, asked)))
            .map_err(|error| error.to_string())?;
        Ok(Self { way, asks })
    }

    /// Whether the service does what it must: it has the key, the token may use it, and what was encrypted for one place is
    /// not decrypted for another.
    ///
    /// # Errors
    /// [`ServiceError::Denied`] with the remedy; [`ServiceError::Unavailable`] when there is no telling.
    pub fn verify(&self) -> Result<(), ServiceError> {
        self.newest()?;
        let tenant = Tenant::public();
        let name = |version| KeyName { tenant: &tenant, version };
        let wrapped = self.wrap(name(1), &Key::new(&[0; 32]), &[0; 32])?;
        self.unwrap(name(1), &wrapped)?;
        match self.unwrap(name(2), &wrapped) {
            Err(ServiceError::Refused) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(ServiceError::Denied(format!(
                "the key service at {} does not heed associated data; it needs Vault 1.13 or OpenBao, and a key of type aes256-gcm96",
                self.way.url
            ))),
        }
    }

    /// The newest version of the service's key.
    fn newest(&self) -> Result<u64, ServiceError> {
        #[derive(Deserialize)]
        struct Versions {
            latest_version: u64,
        }
        let path = self.path("keys");
        let versions: Versions = self.call(Method::GET, path, Bytes::new())?;
        Ok(versions.latest_version)
    }

    fn path(&self, what: &str) -> String {
        format!("/v1/{}/{what}/{}", self.way.mount, self.way.key)
    }

    /// What stands under `data` of the answer.
    fn call<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Result<T, ServiceError> {
        #[derive(Deserialize)]
        struct Data<T> {
            data: T,
        }
        let away =
            |why: &str| ServiceError::Unavailable(format!("the key service at {}: {why}", self.way.url));
        let (answer, told) = sync_channel(1);
        self.asks
            .try_send(Ask { method, path, body, answer })
            .map_err(|_| away("too many calls at once; it does not keep up"))?;
        let answer = told.recv_timeout(DEADLINE.saturating_mul(2)).map_err(|error| match error {
            RecvTimeoutError::Timeout => away("no answer in time"),
            RecvTimeoutError::Disconnected => away("the thread that asks it has ended; start anew"),
        })??;
        if !(200..300).contains(&answer.status) {
            return Err(self.way.refusal(answer.status, &answer.body));
        }
        let data: Data<T> = serde_json::from_slice(&answer.body)
            .map_err(|_| ServiceError::Denied(format!("{} does not answer as Transit does", self.way.url)))?;
        Ok(data.data)
    }
}

impl KeyService for Transit {
    fn wrap(&self, name: KeyName<'_>, key: &Key, _salt: &[u8; 32]) -> Result<Vec<u8>, ServiceError> {
        #[derive(Deserialize)]
        struct Wrapped {
            ciphertext: String,
        }
        let plaintext = Zeroizing::new(STANDARD.encode(key.expose()));
        let body = json!({"plaintext": *plaintext, "associated_data": associated(name)});
        let wrapped: Wrapped =
            self.call(Method::POST, self.path("encrypt"), Bytes::from(body.to_string()))?;
        let wrapped = wrapped.ciphertext.into_bytes();
        if has_wrapped(&wrapped) {
            return Ok(wrapped);
        }
        Err(ServiceError::Denied(format!("{} answers with what is no ciphertext of Transit", self.way.url)))
    }

    fn unwrap(&self, name: KeyName<'_>, wrapped: &[u8]) -> Result<Key, ServiceError> {
        #[derive(Deserialize)]
        struct Unwrapped {
            plaintext: String,
        }
        let text = std::str::from_utf8(wrapped).ok().filter(|text| text.starts_with("vault:v"));
        let text = text.ok_or(ServiceError::Refused)?;
        let body = json!({"ciphertext": text, "associated_data": associated(name)});
        let unwrapped: Unwrapped =
            self.call(Method::POST, self.path("decrypt"), Bytes::from(body.to_string()))?;
        let plaintext = Zeroizing::new(unwrapped.plaintext);
        let key = STANDARD.decode(plaintext.as_bytes()).map(Zeroizing::new);
        key.ok().and_then(|key| Key::from_slice(&key)).ok_or(ServiceError::Refused)
    }

    fn are_current(&self, wrapped: &[&[u8]]) -> Result<bool, ServiceError> {
        let newest = self.newest()?;
        Ok(wrapped.iter().all(|wrapped| version(wrapped) == Some(newest)))
    }
}

/// The version of the service's key that wrapped it: `vault:v3:...`.
fn version(wrapped: &[u8]) -> Option<u64> {
    let rest = wrapped.strip_prefix(MARK)?;
    let digits = rest.split(|byte| *byte == b':').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What is wrapped: bound to the ciphertext.
fn associated(name: KeyName<'_>) -> String {
    let tenant = name.tenant.as_str().as_bytes();
    let length = u16::try_from(tenant.len()).unwrap_or(u16::MAX);
    let bytes = [LABEL, &length.to_be_bytes(), tenant, &name.version.to_be_bytes()].concat();
    STANDARD.encode(bytes)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Answers calls until nobody can ask any more.
async fn serve(way: Arc<Way>, mut asked: mpsc::Receiver<Ask>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some(ask) = asked.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let way = Arc::clone(&way);
        tokio::spawn(async move {
            let done = tokio::time::timeout(DEADLINE, way.ask(&ask)).await;
            let late = || format!("the key service at {}: no answer within {DEADLINE:?}", way.url);
            // Who asked may have gone.
            let _ = ask.answer.try_send(done.unwrap_or_else(|_| Err(ServiceError::Unavailable(late()))));
            drop(place);
        });
    }
}

impl Way {
    /// Asks over a connection that is open, or over a new one when that has ended meanwhile.
    async fn ask(&self, ask: &Ask) -> Result<Answer, ServiceError> {
        let token = self.token()?;
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let kept = kept.filter(|(shown, _)| *shown == token);
            let fresh = kept.is_none();
            let mut client = match kept {
                Some((_, client)) => client,
                None => self.client(&token)?,
            };
            match client.send(ask.method.clone(), &ask.path, "application/json", ask.body.clone()).await {
                Ok(answer) => {
                    let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                    idle.truncate(CONNECTIONS.saturating_sub(1));
                    idle.push((token, client));
                    return Ok(answer);
                }
                Err(why) if fresh => {
                    return Err(ServiceError::Unavailable(format!("the key service at {}: {why}", self.url)));
                }
                Err(_) => {}
            }
        }
    }

    fn client(&self, token: &str) -> Result<Client, ServiceError> {
        let headers = [("x-vault-token", token), ("x-vault-request", "true")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let client = Client::new(&self.url, PORT, &headers).map_err(|_| {
            ServiceError::Denied("the key service's token is not text of one line".to_owned())
        })?;
        Ok(match &self.authorities {
            Some(file) => client.trusting(file),
            None => client,
        })
    }

    fn token(&self) -> Result<Zeroizing<String>, ServiceError> {
        let read;
        let secret = match &self.token {
            Token::Given(secret) => secret,
            Token::File(path) => {
                read = Secret::read(path, MIN_TOKEN_BYTES)
                    .map_err(|error| ServiceError::Denied(format!("the key service's token: {error}")))?;
                &read
            }
        };
        Ok(Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned()))
    }

    /// What an answer that is none of 2xx means.
    fn refusal(&self, status: u16, body: &[u8]) -> ServiceError {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Errors {
            errors: Vec<String>,
        }
        let said: Errors = serde_json::from_slice(body).unwrap_or_default();
        let said = said.errors.join("; ");
        if status == 400
            && (said.contains("message authentication failed") || said.contains("invalid ciphertext"))
        {
            return ServiceError::Refused;
        }
        let words: String = said.chars().filter(|char| !char.is_control()).take(WORDS).collect();
        let (url, mount, key) = (&self.url, &self.mount, &self.key);
        if status == 400 && said.contains("disallowed by policy") {
            return ServiceError::OtherRoot(format!(
                "of an older version at {url} ({words}; min_decryption_version)"
            ));
        }
        let answers = format!("the key service at {url} answers {status} {words}");
        match status {
            403 => ServiceError::Denied(format!(
                "{answers}; its token must be valid, and allow update of {mount}/encrypt/{key} and {mount}/decrypt/{key} and \
                 read of {mount}/keys/{key}"
            )),
            404 => ServiceError::Denied(format!(
                "{answers}; it has no such key: make it with `bao secrets enable -path={mount} transit` and \
                 `bao write -f {mount}/keys/{key}`"
            )),
            408 | 429 | 471..=473 | 500..=599 => ServiceError::Unavailable(answers),
            _ => ServiceError::Denied(answers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(url: &str) -> Result<Transit, String> {
        Transit::new(url, Token::Given(Secret::new("t", "token".to_owned(), 4).unwrap()), None)
    }

    #[test]
    fn an_address_names_mount_and_key_and_hides_nothing_in_plain() {
        let way = new("https://vault.example/team/transit/portcullis").unwrap();
        assert_eq!(way.path("encrypt"), "/v1/team/transit/encrypt/portcullis");
        new("http://127.0.0.1:8200/transit/portcullis").unwrap();
        for (bad, named) in [
            ("vault.example", "not an address"),
            ("https://vault.example", "no mount and key"),
            ("https://vault.example/transit", "no mount and key"),
            ("https://vault.example/transit/../sys/x", "no mount and key"),
            ("https://vault.example/transit/a?b", "no mount and key"),
            ("https://vault.example//x", "no mount and key"),
            ("https://me:pw@vault.example/transit/x", "password"),
            ("http://vault.example/transit/x", "in plain"),
        ] {
            let said = new(bad).err().unwrap();
            assert!(said.contains(named), "{bad}: {said}");
        }
    }

    #[test]
    fn a_version_is_read_of_what_transit_wrapped_alone() {
        assert_eq!(version(b"vault:v12:abc"), Some(12));
        for other in [&b"vault:vx:a"[..], b"vault:", b"\x01\x02", b"vault:v"] {
            assert_eq!(version(other), None);
        }
    }

    #[test]
    fn answers_say_what_to_do_and_carry_no_control_characters() {
        let way = new("https://vault.example/transit/portcullis").unwrap().way;
        let said = |status: u16, body: &str| way.refusal(status, body.as_bytes());
        let altered = r#"{"errors":["cipher: message authentication failed"]}"#;
        assert_eq!(said(400, altered), ServiceError::Refused);
        assert!(matches!(said(503, r#"{"errors":["Vault is sealed"]}"#), ServiceError::Unavailable(_)));
        let denied = said(403, "{\"errors\":[\"permission\\u001b[31m denied\"]}").to_string();
        assert!(
            denied.contains("update of transit/encrypt/portcullis") && !denied.contains('\u{1b}'),
            "{denied}"
        );
        assert!(said(404, "not json").to_string().contains("bao write -f transit/keys/portcullis"));
        let long = format!("{{\"errors\":[\"{}\"]}}", "x".repeat(10_000));
        assert!(said(418, &long).to_string().len() < 400);
    }
}
