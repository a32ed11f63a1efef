//! Bearer tokens of the API: who may read whose data, until when.
//!
//! A token is `pct1.<payload>.<tag>`: base64url without padding of a small JSON object, and of its
//! HMAC-SHA256 under a key derived from SECRET_KEY. The prefix is the version; it stands under the tag, so
//! that a later format can never be mistaken for this one.
//!
//! The dashboard's session is a token of its own kind, under a key of its own: it is made of an API token, ends with it at the
//! latest, tells when that one was issued, and neither is taken for the other. So nothing is prolonged by showing it again.
//!
//! Against: forged, altered, expired or borrowed tokens, and those that were issued for a tenant that was removed since, when
//! another one has its name. Not against: a stolen token (it is good until it expires; changing SECRET_KEY ends every token at
//! once). Limits: 1 KiB a token, a life of one minute to 366 days.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::secret::{Secret, random_hex};
use crate::tenant::TenantId;

/// The longest token that is looked at.
pub const MAX_BYTES: usize = 1024;
/// The longest life of a token.
pub const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The shortest life of a token.
pub const MIN_TTL: Duration = Duration::from_secs(60);

const PREFIX: &str = "pct1";
/// Separate these uses of SECRET_KEY from every other.
const API: &[u8] = b"portcullis api token, version 1";
const SESSION: &[u8] = b"portcullis dashboard session, version 1";

/// What a token opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every tenant, and the companion's own state.
    Admin,
    /// One tenant.
    Tenant(TenantId),
}

/// A verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it opens.
    pub scope: Scope,
    /// Names the token in logs; tells nothing of its value.
    pub id: String,
    /// When it was issued, to the millisecond; of one from before tokens told, the earliest that is possible.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

impl Grant {
    /// Whether this grant opens `tenant`.
    #[must_use]
    pub fn opens(&self, tenant: &TenantId) -> bool {
        match &self.scope {
            Scope::Admin => true,
            Scope::Tenant(own) => own == tenant,
        }
    }
}

/// Why a token is not taken. Clients learn only that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not of our shape, or the tag does not fit.
    #[error("the token is not one of ours")]
    Invalid,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
}

/// Why no token could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Outside the allowed life.
    #[error("ttl: must be 1m to 366d")]
    Ttl,
    /// The system gave no random bytes.
    #[error("the system's random source failed: {0}")]
    Random(#[from] getrandom::Error),
    /// The claims did not serialize, or the key was not taken.
    #[error("the token could not be made")]
    Encoding,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScopeName {
    Admin,
    Tenant,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    scope: ScopeName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// Seconds since the Unix epoch.
    exp: i64,
    id: String,
}

impl Claims {
    fn issued(&self) -> Option<Timestamp> {
        let life = i64::try_from(MAX_TTL.as_secs()).unwrap_or(i64::MAX);
        match self.iat {
            Some(at) => Timestamp::from_millisecond(at).ok(),
            None => Timestamp::from_second(self.exp.saturating_sub(life)).ok(),
        }
    }
}

/// Issues and verifies tokens.
#[derive(Clone, Debug)]
pub struct TokenKey {
    key: Secret,
}

impl TokenKey {
    /// The key for tokens under `secret_key`.
    #[must_use]
    pub fn new(secret_key: Secret) -> Self {
        Self { key: secret_key }
    }

    /// Makes a token.
    ///
    /// # Errors
    /// A life out of bounds, or no random bytes.
    pub fn issue(&self, scope: &Scope, now: Timestamp, ttl: Duration) -> Result<String, IssueError> {
        if ttl < MIN_TTL || ttl > MAX_TTL {
            return Err(IssueError::Ttl);
        }
        let seconds = i64::try_from(ttl.as_secs()).map_err(|_| IssueError::Ttl)?;
        self.seal(API, scope, now, now.as_second().saturating_add(seconds), random_hex::<8>()?)
    }

    /// Makes the dashboard's session of a token: the same scope, the same name in logs, and an end that is not later.
    ///
    /// # Errors
    /// It could not be encoded.
    pub fn issue_session(&self, grant: &Grant, end: Timestamp) -> Result<String, IssueError> {
        let end = end.min(grant.expires).as_second();
        self.seal(SESSION, &grant.scope, grant.issued, end, grant.id.clone())
    }

    fn seal(
        &self,
        purpose: &[u8],
        scope: &Scope,
        issued: Timestamp,
        exp: i64,
        id: String,
    ) -> Result<String, IssueError> {
        let (scope, tenant) = match scope {
            Scope::Admin => (ScopeName::Admin, None),
            Scope::Tenant(tenant) => (ScopeName::Tenant, Some(tenant.as_str().to_owned())),
        };
        let claims = Claims { scope, tenant, iat: Some(issued.as_millisecond()), exp, id };
        let payload = serde_json::to_vec(&claims).map_err(|_| IssueError::Encoding)?;
        let signed = format!("{PREFIX}.{}", URL_SAFE_NO_PAD.encode(payload));
        let tag = self.mac_for(purpose, signed.as_bytes()).ok_or(IssueError::Encoding)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.finalize().into_bytes())))
    }

    /// Verifies `token`: the tag first, in constant time; nothing inside is read before it fits.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Grant, TokenError> {
        self.open(API, token, now)
    }

    /// The same of a dashboard's session.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify_session(&self, session: &str, now: Timestamp) -> Result<Grant, TokenError> {
        self.open(SESSION, session, now)
    }

    fn open(&self, purpose: &[u8], token: &str, now: Timestamp) -> Result<Grant, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::Invalid);
        }
        let (signed, tag) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| TokenError::Invalid)?;
        let mac = self.mac_for(purpose, signed.as_bytes()).ok_or(TokenError::Invalid)?;
        mac.verify_slice(&tag).map_err(|_| TokenError::Invalid)?;

        let payload =
            signed.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')).ok_or(TokenError::Invalid)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Invalid)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Invalid)?;
        if claims.exp <= now.as_second() {
            return Err(TokenError::Expired);
        }
        let issued = claims.issued().ok_or(TokenError::Invalid)?;
        let scope = match (claims.scope, claims.tenant) {
            (ScopeName::Admin, None) => Scope::Admin,
            (ScopeName::Tenant, Some(name)) => {
                Scope::Tenant(TenantId::new(&name).map_err(|_| TokenError::Invalid)?)
            }
            _ => return Err(TokenError::Invalid),
        };
        let expires = Timestamp::from_second(claims.exp).map_err(|_| TokenError::Invalid)?;
        Ok(Grant { scope, id: claims.id, issued, expires })
    }

    /// What a page shows beside the cookie that holds `session`, to prove that it can read what its own origin is told.
    #[must_use]
    pub fn csrf(&self, session: &str) -> Option<String> {
        let tag = self.mac_for(b"portcullis dashboard csrf, version 1", session.as_bytes())?;
        Some(URL_SAFE_NO_PAD.encode(tag.finalize().into_bytes()))
    }

    /// The authentication code of `message` under a key that is made for `purpose` alone.
    #[must_use]
    pub fn mac_for(&self, purpose: &[u8], message: &[u8]) -> Option<Hmac<Sha256>> {
        let mut derive = Hmac::<Sha256>::new_from_slice(self.key.expose()).ok()?;
        derive.update(purpose);
        let mut mac = Hmac::<Sha256>::new_from_slice(&derive.finalize().into_bytes()).ok()?;
        mac.update(message);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn key(text: &str) -> TokenKey {
        TokenKey::new(Secret::new("SECRET_KEY", text.repeat(32), 32).unwrap())
    }

    fn tenant(name: &str) -> Scope {
        Scope::Tenant(TenantId::new(name).unwrap())
    }

    #[test]
    fn a_token_opens_what_it_was_made_for() {
        let now = Timestamp::UNIX_EPOCH;
        for scope in [Scope::Admin, tenant("acme"), tenant("O'Brien;--")] {
            let token = key("k").issue(&scope, now, DAY).unwrap();
            assert_eq!(key("k").verify(&token, now).unwrap().scope, scope);
        }
        let grant = key("k").verify(&key("k").issue(&tenant("acme"), now, DAY).unwrap(), now).unwrap();
        assert!(grant.opens(&TenantId::new("acme").unwrap()));
        assert!(!grant.opens(&TenantId::new("acm").unwrap()));
    }

    #[test]
    fn it_ends_on_the_second_it_says() {
        let token = key("k").issue(&Scope::Admin, Timestamp::UNIX_EPOCH, DAY).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(key("k").verify(&token, at(86_399)).is_ok());
        assert_eq!(key("k").verify(&token, at(86_400)), Err(TokenError::Expired));
    }

    #[test]
    fn a_session_ends_with_its_token_and_is_none() {
        let (key, now) = (key("k"), Timestamp::UNIX_EPOCH);
        let at = |second| Timestamp::from_second(second).unwrap();
        let token = key.issue(&tenant("acme"), now, MIN_TTL).unwrap();
        let grant = key.verify(&token, at(50)).unwrap();
        let session = key.issue_session(&grant, at(50_000)).unwrap();
        assert_eq!(key.verify_session(&session, at(59)), Ok(grant));
        assert_eq!(key.verify_session(&session, at(60)), Err(TokenError::Expired));
        assert_eq!(key.verify(&session, at(50)), Err(TokenError::Invalid));
        assert_eq!(key.verify_session(&token, at(50)), Err(TokenError::Invalid));
    }

    #[test]
    fn a_token_from_before_they_told_was_issued_as_early_as_can_be() {
        let claims = r#"{"scope":"admin","exp":31622400,"id":"a"}"#;
        let signed = format!("{PREFIX}.{}", URL_SAFE_NO_PAD.encode(claims));
        let tag = key("k").mac_for(API, signed.as_bytes()).unwrap().finalize().into_bytes();
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        let grant = key("k").verify(&token, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(grant.issued, Timestamp::UNIX_EPOCH, "366 days before its end");
    }

    #[test]
    fn another_key_and_other_versions_are_refused() {
        let now = Timestamp::UNIX_EPOCH;
        let token = key("k").issue(&Scope::Admin, now, DAY).unwrap();
        assert_eq!(key("x").verify(&token, now), Err(TokenError::Invalid));
        assert_eq!(key("k").verify(&token.replacen("pct1", "pct2", 1), now), Err(TokenError::Invalid));
        for junk in ["", ".", "..", "pct1..", "pct1.e30.", &"a.".repeat(2000)] {
            assert_eq!(key("k").verify(junk, now), Err(TokenError::Invalid), "{junk}");
        }
    }

    #[test]
    fn life_has_bounds() {
        for ttl in [Duration::ZERO, Duration::from_secs(59), MAX_TTL + Duration::from_secs(1)] {
            assert!(matches!(
                key("k").issue(&Scope::Admin, Timestamp::UNIX_EPOCH, ttl),
                Err(IssueError::Ttl)
            ));
        }
    }

    proptest! {
        #[test]
        fn any_altered_byte_is_noticed(at in 0_usize..200, with in any::<char>()) {
            let now = Timestamp::UNIX_EPOCH;
            let token = key("k").issue(&tenant("acme"), now, DAY).unwrap();
            let mut chars: Vec<char> = token.chars().collect();
            let at = at % chars.len();
            prop_assume!(chars[at] != with);
            chars[at] = with;
            let altered: String = chars.into_iter().collect();
            prop_assert_eq!(key("k").verify(&altered, now), Err(TokenError::Invalid));
        }
    }
}
