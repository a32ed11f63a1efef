//! `/api/security/keys`: the versions of tenants' keys, for the admin scope. Keys themselves leave the companion in no way.
//!
//! Rotation makes a version that seals from now on; older ones still open. Rewrapping seals the kept values anew under the
//! newest version, and wraps the keys under the present root key. Raising `min_decrypt_version` shuts older versions out, with
//! `trim` for good. Shredding deletes all versions: what they sealed is lost, at once and for ever.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use getrandom::SysRng;
use portcullis_keyring::{Error, TenantRecord};
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paths::{TenantPath, tenant_name};
use super::{Api, auth, parameters};
use crate::clock::{Timestamp, rfc3339};
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::keys::{Blocking, KeysError};
use crate::tenant::{MalformedTenant, TenantId};
use crate::token::Grant;

const MAX_BODY_BYTES: usize = 4 * 1024;
/// Tenants of one page.
const PAGE: usize = 100;

/// A version of a key.
#[derive(Serialize, JsonSchema)]
pub struct VersionBody {
    version: u32,
    /// RFC 3339, UTC.
    created_at: String,
}

/// The keys of a tenant.
#[derive(Serialize, JsonSchema)]
pub struct KeyBody {
    tenant_id: String,
    /// The one that seals.
    current_version: u32,
    /// The least that opens.
    min_decrypt_version: u32,
    /// Oldest first; none when they were shredded.
    versions: Vec<VersionBody>,
    /// RFC 3339, UTC; null when they are not.
    shredded_at: Option<String>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Keys by tenant.
#[derive(Serialize, JsonSchema)]
pub struct KeyList {
    keys: Vec<KeyBody>,
    count: usize,
    /// Give it as `after` to read on; null when there are no more.
    next_after: Option<String>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// What is to change.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// The least version that is opened from now on.
    #[schemars(range(min = 1))]
    min_decrypt_version: u32,
    /// Whether versions below it are deleted, for good.
    #[serde(default)]
    trim: bool,
}

/// What a proxy seals to.
#[derive(Serialize, JsonSchema)]
pub struct PublicKeyBody {
    tenant_id: String,
    key_version: u32,
    /// `pcpk1.VERSION.KEY` (`plugins/hpke/ENVELOPE.md`).
    public_key: String,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// What came of rewrapping.
#[derive(Serialize, JsonSchema)]
pub struct Rewrapped {
    tenant_id: String,
    /// Whether keys stood under another root key than the present one, and do not any more.
    root_changed: bool,
    /// Kept values that are sealed under the newest version by now and were not.
    values_resealed: u64,
    /// Kept values that could not be opened; the log names them.
    values_unreadable: u64,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Keys are gone.
#[derive(Serialize, JsonSchema)]
pub struct Shredded {
    tenant_id: String,
    shredded: bool,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// What a client is told of an error of the keyring.
pub fn problem(error: &Error) -> Problem {
    let (status, reason) = match error {
        Error::UnknownTenant(_) => (StatusCode::NOT_FOUND, "no-key"),
        Error::Exists(_) => (StatusCode::CONFLICT, "key-exists"),
        Error::TooManyVersions(_) => (StatusCode::CONFLICT, "too-many-versions"),
        Error::Shredded(_) => (StatusCode::GONE, "keys-shredded"),
        Error::Malformed(_) | Error::Refused | Error::UnknownVersion { .. } | Error::BelowMinimum { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "not-opened")
        }
        Error::FieldTooLong { .. } | Error::TooLarge(_) => (StatusCode::UNPROCESSABLE_ENTITY, "too-long"),
        Error::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        Error::Random | Error::Store(_) | Error::Service(_) | Error::Primitive => {
            let detail = "keys are not to be had; the companion's log says why";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "keys-unavailable", detail);
            return Problem { cause: Some(error.to_string()), ..problem };
        }
    };
    Problem::new(status, reason, error.to_string())
}

fn instant(milliseconds: i64) -> String {
    rfc3339(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn body_of(record: &TenantRecord, now: Timestamp) -> KeyBody {
    KeyBody {
        tenant_id: record.tenant.as_str().to_owned(),
        current_version: record.current,
        min_decrypt_version: record.min_decrypt,
        versions: record
            .versions
            .iter()
            .map(|held| VersionBody { version: held.version, created_at: instant(held.created_at) })
            .collect(),
        shredded_at: record.shredded_at.map(instant),
        timestamp: rfc3339(now),
    }
}

/// A tenant of the admin's, and whoever asks: everything here needs both.
async fn admitted(api: &Api, grant: &Grant, path: TenantPath) -> Result<TenantId, Problem> {
    auth::require_admin(grant)?;
    auth::open_tenant(api, grant, &tenant_name(path)?).await
}

async fn run<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Blocking<'_>) -> Result<T, KeysError> + Send + 'static,
) -> Result<T, Problem> {
    api.keys.run(work).await.map_err(|error| api.keys_problem(&error))
}

/// Written down with who did it.
fn record_change(what: &'static str, tenant: &TenantId, grant: &Grant, correlation_id: &CorrelationId) {
    tracing::warn!(
        category = "audit",
        correlation_id = correlation_id.as_str(),
        tenant = tenant.as_str(),
        token_id = grant.id,
        change = what,
        "keys changed"
    );
}

/// All, by tenant.
pub async fn list(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    uri: Uri,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let after = parameters::only(&uri, "after")?.map(|name| TenantId::new(&name)).transpose();
    let after = after.map_err(|error: MalformedTenant| Problem::malformed(format!("after: {error}")))?;
    let records =
        run(&api, move |keys| Ok(keys.keyring().records(after.as_ref().map(TenantId::as_tenant), PAGE)?))
            .await?;
    let now = api.clock.now();
    Ok(json(&KeyList {
        next_after: records
            .last()
            .filter(|_| records.len() == PAGE)
            .map(|record| record.tenant.as_str().to_owned()),
        count: records.len(),
        keys: records.iter().map(|record| body_of(record, now)).collect(),
        timestamp: rfc3339(now),
    }))
}

/// One tenant's; also of one whose keys were shredded.
pub async fn read(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    path: TenantPath,
) -> Result<Response, Problem> {
    let tenant = admitted(&api, &grant, path).await?;
    let record = run(&api, move |keys| Ok(keys.keyring().any_record(tenant.as_tenant())?)).await?;
    Ok(json(&body_of(&record, api.clock.now())))
}

/// The public key of the newest version. It is no secret: the tenant's own token is enough.
pub async fn public(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    path: TenantPath,
) -> Result<Response, Problem> {
    let tenant = auth::open_tenant(&api, &grant, &tenant_name(path)?).await?;
    let key = api.keys.public_key(&tenant).await.map_err(|error| api.keys_problem(&error))?;
    Ok(json(&PublicKeyBody {
        tenant_id: tenant.to_string(),
        key_version: key.version,
        public_key: key.to_string(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Makes the first key, after a shredding too.
pub async fn create(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    path: TenantPath,
) -> Result<Response, Problem> {
    let tenant = admitted(&api, &grant, path).await?;
    let record = run(&api, {
        let tenant = tenant.clone();
        move |keys| keys.create(tenant.as_tenant())
    })
    .await?;
    record_change("created", &tenant, &grant, &correlation_id);
    Ok((StatusCode::CREATED, json(&body_of(&record, api.clock.now()))).into_response())
}

/// Makes a new version.
pub async fn rotate(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    path: TenantPath,
) -> Result<Response, Problem> {
    let tenant = admitted(&api, &grant, path).await?;
    let record = run(&api, {
        let tenant = tenant.clone();
        move |keys| Ok(keys.keyring().rotate(tenant.as_tenant(), keys.now(), &mut SysRng)?)
    })
    .await?;
    record_change("rotated", &tenant, &grant, &correlation_id);
    Ok(json(&body_of(&record, api.clock.now())))
}

/// Says which versions open.
pub async fn change(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    path: TenantPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let tenant = admitted(&api, &grant, path).await?;
    let change: KeyChange = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let record = run(&api, {
        let tenant = tenant.clone();
        move |keys| {
            let (keyring, tenant) = (keys.keyring(), tenant.as_tenant());
            let record = keyring.set_min_decrypt_version(tenant, change.min_decrypt_version)?;
            Ok(if change.trim { keyring.trim(tenant)? } else { record })
        }
    })
    .await?;
    record_change(if change.trim { "trimmed" } else { "minimum set" }, &tenant, &grant, &correlation_id);
    Ok(json(&body_of(&record, api.clock.now())))
}

/// Seals kept values anew under the newest version, and wraps the keys under the present root key.
pub async fn rewrap(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    path: TenantPath,
) -> Result<Response, Problem> {
    let tenant = admitted(&api, &grant, path).await?;
    let now = api.clock.now();
    let done = api.keys.rewrap_tenant(&tenant, now).await.map_err(|error| api.keys_problem(&error))?;
    record_change("rewrapped", &tenant, &grant, &correlation_id);
    Ok(json(&Rewrapped {
        tenant_id: tenant.to_string(),
        root_changed: done.root_changed,
        values_resealed: done.resealed,
        values_unreadable: done.unreadable,
        timestamp: rfc3339(now),
    }))
}

/// Deletes all versions, for good.
pub async fn shred(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    path: TenantPath,
) -> Result<Response, Problem> {
    let tenant = admitted(&api, &grant, path).await?;
    run(&api, {
        let tenant = tenant.clone();
        move |keys| keys.shred(tenant.as_tenant())
    })
    .await?;
    record_change("shredded", &tenant, &grant, &correlation_id);
    Ok(json(&Shredded { tenant_id: tenant.to_string(), shredded: true, timestamp: rfc3339(api.clock.now()) }))
}
