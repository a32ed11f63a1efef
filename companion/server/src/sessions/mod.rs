//! Sessions of a tenant's users.
//!
//! A token is 256 random bits, told once, when the session begins; the store has its SHA-256 alone. A session ends by
//! whichever comes first: its absolute end (fixed when it begins), a time without use (by the tenant's policy of the
//! moment), being revoked, or a newer one that takes its place beyond the tenant's maximum: then the oldest goes.
//!
//! Against: a stolen database (no token is in it), guessing, sessions that live on unseen. Not against: a stolen token, until
//! it ends. Limits: [`LISTED`] sessions are listed; a use is written down at most every [`TOUCH_PAUSE`], so that a session
//! may end that much before its time without use is over, and a request costs no write. Ended sessions are kept as long as
//! events, then removed.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::policies::{Policies, SessionPolicy};
use crate::secret::{hex, random_hex};
use crate::storage::{Done, Row, Statement, Storage, StorageError, Transaction};
use crate::tenant::TenantId;

/// At most so many of a user's sessions are listed.
pub const LISTED: u32 = 1000;
/// How often a use is written down.
pub const TOUCH_PAUSE: Duration = Duration::from_secs(30);

const PREFIX: &str = "pcs1.";
const TOKEN_BYTES: usize = 32;
/// The longest token that is looked at.
const MAX_TOKEN_CHARS: usize = 128;

/// Whose session, and from where: columns of the store, within their widths.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The user, 1 to 50 characters.
    pub user_id: String,
    /// The user's address, at most 45 characters.
    pub ip_address: Option<String>,
    /// The user's program, at most 500 characters.
    pub user_agent: Option<String>,
}

/// A session that has begun.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// What the user shows from now on. It is told here and never again.
    pub token: String,
    /// The sessions that ended for it.
    pub ended: Vec<String>,
}

/// A session as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose tenant.
    pub tenant: TenantId,
    /// Whose.
    pub user_id: String,
    /// Its name; no secret.
    pub session_id: String,
    /// Where it began.
    pub ip_address: Option<String>,
    /// With what it began.
    pub user_agent: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, to within [`TOUCH_PAUSE`].
    pub last_activity: Timestamp,
    /// Its absolute end.
    pub expires_at: Timestamp,
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Never given out, or so old that it is forgotten.
    Unknown,
    /// Revoked, or gave way to a newer one.
    Revoked,
    /// Its absolute end is over.
    Expired,
    /// Too long without use.
    Inactive,
}

impl Ended {
    /// A word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Inactive => "inactive",
        }
    }
}

/// Whether a look at a session counts as its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Only looked at.
    None,
    /// Written down if the last time is [`TOUCH_PAUSE`] ago.
    Counted,
    /// Written down.
    Touched,
}

/// All sessions.
#[derive(Clone)]
pub struct Sessions {
    storage: Arc<dyn Storage>,
    policies: Policies,
}

impl Sessions {
    /// Those in `storage`, under what tenants have set.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, policies: Policies) -> Self {
        Self { storage, policies }
    }

    /// Begins a session; beyond the tenant's maximum the user's oldest ends.
    ///
    /// # Errors
    /// [`StorageError::Conflict`]: there is no such tenant. The store does not answer, or the system gives no random bytes.
    pub async fn open(
        &self,
        tenant: &TenantId,
        opening: Opening,
        now: Timestamp,
    ) -> Result<Opened, StorageError> {
        let policy = self.policy(tenant).await?;
        let failed = |error: getrandom::Error| StorageError::Failed(format!("no random bytes: {error}"));
        let mut bytes = zeroize::Zeroizing::new([0_u8; TOKEN_BYTES]);
        getrandom::fill(bytes.as_mut_slice()).map_err(failed)?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        let session = Session {
            tenant: tenant.clone(),
            user_id: opening.user_id,
            session_id: random_hex::<16>().map_err(failed)?,
            ip_address: opening.ip_address,
            user_agent: opening.user_agent,
            created_at: now,
            last_activity: now,
            expires_at: later(now, policy.session_timeout_minutes),
        };
        let user = || (tenant.as_str(), session.user_id.as_str());
        let transaction = Transaction::new()
            // Two logins at once must count each other.
            .lock(format!("sessions {tenant} {}", session.user_id))
            .then(insert(&session, &token))
            .then(end_what_is_over(user(), &policy, now))
            .then(end_oldest(user(), policy.max_concurrent_sessions));
        let done = self.storage.write(transaction).await?;
        let ended =
            done.last().map_or(Ok(Vec::new()), |done| done.rows.iter().map(|row| row.text(0)).collect())?;
        Ok(Opened { session, token, ended })
    }

    /// The session that a token opens, of `tenant` alone if one is given.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn verify(
        &self,
        tenant: Option<&TenantId>,
        token: &str,
        used: Use,
        now: Timestamp,
    ) -> Result<Result<Session, Ended>, StorageError> {
        let Some(hash) = hash(token) else { return Ok(Err(Ended::Unknown)) };
        let found = Statement::new(
            "SELECT tenant_id, user_id, session_id, ip_address, user_agent, created_at, last_activity, expires_at, is_active \
             FROM user_sessions WHERE token_hash = ?1 \
             AND EXISTS (SELECT 1 FROM tenants WHERE tenants.tenant_id = user_sessions.tenant_id)",
        );
        let rows = self.storage.read(found.bind(hash)).await?;
        let Some(row) = rows.first() else { return Ok(Err(Ended::Unknown)) };
        let Some(mut session) = session(row)? else { return Ok(Err(Ended::Unknown)) };
        if tenant.is_some_and(|tenant| *tenant != session.tenant) {
            return Ok(Err(Ended::Unknown));
        }
        let policy = self.policy(&session.tenant).await?;
        if !row.boolean(8)? {
            return Ok(Err(Ended::Revoked));
        }
        if session.expires_at <= now {
            return Ok(Err(Ended::Expired));
        }
        if later(session.last_activity, policy.inactive_timeout_minutes) <= now {
            return Ok(Err(Ended::Inactive));
        }
        let pause = match used {
            Use::None => return Ok(Ok(session)),
            Use::Counted => i64::try_from(TOUCH_PAUSE.as_millis()).unwrap_or(i64::MAX),
            Use::Touched => 0,
        };
        if now.as_millisecond().saturating_sub(session.last_activity.as_millisecond()) >= pause {
            let touch = Statement::new(
                "UPDATE user_sessions SET last_activity = ?1 WHERE session_id = ?2 AND is_active AND last_activity < ?1",
            );
            self.storage.write(touch.bind(now).bind(session.session_id.as_str()).into()).await?;
            session.last_activity = now;
        }
        Ok(Ok(session))
    }

    /// Ends a session; `false` when the tenant has none of that name that goes on.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn revoke(&self, tenant: &TenantId, session_id: &str) -> Result<bool, StorageError> {
        let end = Statement::new(
            "UPDATE user_sessions SET is_active = FALSE WHERE tenant_id = ?1 AND session_id = ?2 AND is_active",
        );
        Ok(changed(&self.storage.write(end.bind(tenant.as_str()).bind(session_id).into()).await?) > 0)
    }

    /// Ends all sessions of a user, or of the whole tenant; tells how many.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn revoke_all(&self, tenant: &TenantId, user_id: Option<&str>) -> Result<u64, StorageError> {
        let end = match user_id {
            Some(user_id) => Statement::new(
                "UPDATE user_sessions SET is_active = FALSE WHERE tenant_id = ?1 AND is_active AND user_id = ?2",
            )
            .bind(tenant.as_str())
            .bind(user_id),
            None => Statement::new("UPDATE user_sessions SET is_active = FALSE WHERE tenant_id = ?1 AND is_active")
                .bind(tenant.as_str()),
        };
        Ok(changed(&self.storage.write(end.into()).await?))
    }

    /// The sessions of a user that go on, newest first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn of_user(
        &self,
        tenant: &TenantId,
        user_id: &str,
        now: Timestamp,
    ) -> Result<Vec<Session>, StorageError> {
        let policy = self.policy(tenant).await?;
        let rows = self
            .storage
            .read(
                Statement::new(
                    "SELECT tenant_id, user_id, session_id, ip_address, user_agent, created_at, last_activity, expires_at \
                     FROM user_sessions WHERE tenant_id = ?1 AND user_id = ?2 AND is_active AND expires_at > ?3 \
                     AND last_activity > ?4 ORDER BY created_at DESC, id DESC LIMIT ?5",
                )
                .bind(tenant.as_str())
                .bind(user_id)
                .bind(now)
                .bind(earlier(now, policy.inactive_timeout_minutes))
                .bind(LISTED),
            )
            .await?;
        rows.iter().filter_map(|row| session(row).transpose()).collect()
    }

    /// Removes what ended before an instant; tells how many.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn expire(&self, before: Timestamp) -> Result<u64, StorageError> {
        let remove = Statement::new("DELETE FROM user_sessions WHERE expires_at < ?1").bind(before);
        Ok(changed(&self.storage.write(remove.into()).await?))
    }

    async fn policy(&self, tenant: &TenantId) -> Result<SessionPolicy, StorageError> {
        let known = self.policies.known(std::slice::from_ref(tenant)).await?;
        Ok(known.first().map_or_else(SessionPolicy::default, |policies| policies.session.clone()))
    }
}

/// Those of a user whose time is over are no longer in the way.
fn end_what_is_over((tenant, user): (&str, &str), policy: &SessionPolicy, now: Timestamp) -> Statement {
    Statement::new(
        "UPDATE user_sessions SET is_active = FALSE WHERE tenant_id = ?1 AND user_id = ?2 AND is_active \
         AND (expires_at <= ?3 OR last_activity <= ?4)",
    )
    .bind(tenant)
    .bind(user)
    .bind(now)
    .bind(earlier(now, policy.inactive_timeout_minutes))
}

fn insert(session: &Session, token: &str) -> Statement {
    // Only as long as the tenant is there: one that is removed meanwhile takes it along.
    Statement::of_tenant(
        "INSERT INTO user_sessions (tenant_id, user_id, session_id, token_hash, ip_address, user_agent, last_activity, \
         created_at, expires_at) SELECT tenant_id, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8 FROM tenants WHERE tenant_id = ?1",
    )
    .bind(session.tenant.as_str())
    .bind(session.user_id.as_str())
    .bind(session.session_id.as_str())
    .bind(hash(token).unwrap_or_default())
    .bind(session.ip_address.as_deref())
    .bind(session.user_agent.as_deref())
    .bind(session.created_at)
    .bind(session.expires_at)
    .must_change(1)
}

/// In the order in which they were begun, whatever the clock said: a step back would make the newest the oldest.
fn end_oldest((tenant, user): (&str, &str), most: u32) -> Statement {
    Statement::new(
        "UPDATE user_sessions SET is_active = FALSE WHERE id IN (SELECT id FROM user_sessions WHERE tenant_id = ?1 \
         AND user_id = ?2 AND is_active ORDER BY id DESC LIMIT 1000000 OFFSET ?3) RETURNING session_id",
    )
    .bind(tenant)
    .bind(user)
    .bind(most)
}

/// A row of the store; `None` for one of a tenant whose name is none of ours.
fn session(row: &Row) -> Result<Option<Session>, StorageError> {
    let Ok(tenant) = TenantId::new(&row.text(0)?) else { return Ok(None) };
    Ok(Some(Session {
        tenant,
        user_id: row.text(1)?,
        session_id: row.text(2)?,
        ip_address: row.text_or_null(3)?,
        user_agent: row.text_or_null(4)?,
        created_at: row.time(5)?,
        last_activity: row.time(6)?,
        expires_at: row.time(7)?,
    }))
}

fn changed(done: &[Done]) -> u64 {
    done.first().map_or(0, |done| done.changed)
}

/// What the store has of a token: nothing to guess from, since a token has 256 random bits.
fn hash(token: &str) -> Option<String> {
    let shaped = token.len() <= MAX_TOKEN_CHARS && token.starts_with(PREFIX);
    shaped.then(|| hex(&Sha256::digest(token)))
}

fn shifted(at: Timestamp, minutes: i64) -> Timestamp {
    let millis = at.as_millisecond().saturating_add(minutes.saturating_mul(60_000));
    Timestamp::from_millisecond(millis).unwrap_or(at)
}

fn later(at: Timestamp, minutes: u32) -> Timestamp {
    shifted(at, i64::from(minutes))
}

fn earlier(at: Timestamp, minutes: u32) -> Timestamp {
    shifted(at, -i64::from(minutes))
}
