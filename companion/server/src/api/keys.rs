//! `/api/security/keys`: the versions of tenants' keys, for the admin scope. Keys themselves leave the companion in no way.
//!
//! Rotation makes a version that seals from now on; older ones still open. Rewrapping seals the kept values anew under the
//! newest version, and wraps the keys under the present root key; what the audit trail has sealed stays as it is. Raising
//! `min_decrypt_version` shuts older versions out, with `trim` for good, and is refused while the trail may need them.
//! Shredding deletes all versions: what they sealed is lost, at once and for ever, and the events show nothing of people.
//!
//! Each call but the list is an [`Admin`]'s: who asks, for which tenant, what is done with its keys, and the line about it.

use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use getrandom::SysRng;
use portcullis_keyring::{Error, TenantRecord};
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paths::OpenedTenant;
use super::{Api, auth, parameters};
use crate::clock::{Timestamp, rfc3339};
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::keys::{Blocking, KeysError, Minimum};
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
    /// Whether it is done although the audit trail may hold records that older versions sealed.
    #[serde(default)]
    force: bool,
}

/// What a proxy seals to.
#[derive(Serialize, JsonSchema)]
pub struct PublicKeyBody {
    tenant_id: String,
    key_version: u32,
    /// As the module's section `seal` takes it: `pcpk1.VERSION.KEY`.
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
    /// Events that show nothing of people any more.
    events_erased: u64,
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

/// An admin who asks for the keys of a tenant.
pub struct Admin {
    api: Api,
    grant: Grant,
    correlation_id: Option<CorrelationId>,
    tenant: TenantId,
}

impl FromRequestParts<Api> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        // Without one the middleware has let nobody pass.
        let grant = parts.extensions.get::<Grant>().cloned().ok_or_else(Problem::unauthorized)?;
        auth::require_admin(&grant)?;
        let OpenedTenant(tenant) = OpenedTenant::from_request_parts(parts, api).await?;
        let correlation_id = parts.extensions.get::<CorrelationId>().cloned();
        Ok(Self { api: api.clone(), grant, correlation_id, tenant })
    }
}

impl Admin {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Blocking<'_>, &TenantId) -> Result<T, KeysError> + Send + 'static,
    ) -> Result<T, Problem> {
        let tenant = self.tenant.clone();
        self.api
            .keys
            .run(move |keys| work(keys, &tenant))
            .await
            .map_err(|error| self.api.keys_problem(&error))
    }

    /// Does something to the keys, writes down who did it, and shows them as they are then.
    async fn change(
        &self,
        what: &'static str,
        work: impl FnOnce(&Blocking<'_>, &TenantId) -> Result<TenantRecord, KeysError> + Send + 'static,
    ) -> Result<Response, Problem> {
        let record = self.run(work).await?;
        self.record(what);
        Ok(self.show(&record))
    }

    fn show(&self, record: &TenantRecord) -> Response {
        json(&body_of(record, self.api.clock.now()))
    }

    fn record(&self, what: &'static str) {
        tracing::warn!(
            category = "audit",
            correlation_id = self.correlation_id.as_ref().map(CorrelationId::as_str),
            tenant = self.tenant.as_str(),
            token_id = self.grant.id,
            change = what,
            "keys changed"
        );
    }
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
    let page = api
        .keys
        .run(move |keys| Ok(keys.keyring().records(after.as_ref().map(TenantId::as_tenant), PAGE)?));
    let records = page.await.map_err(|error| api.keys_problem(&error))?;
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
pub async fn read(admin: Admin) -> Result<Response, Problem> {
    let record = admin.run(|keys, tenant| Ok(keys.keyring().any_record(tenant.as_tenant())?)).await?;
    Ok(admin.show(&record))
}

/// The public key of the newest version. It is no secret: the tenant's own token is enough.
pub async fn public(State(api): State<Api>, OpenedTenant(tenant): OpenedTenant) -> Result<Response, Problem> {
    let key = api.keys.public_key(&tenant).await.map_err(|error| api.keys_problem(&error))?;
    Ok(json(&PublicKeyBody {
        tenant_id: tenant.to_string(),
        key_version: key.version,
        public_key: key.to_string(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Makes the first key, after a shredding too.
pub async fn create(admin: Admin) -> Result<Response, Problem> {
    let made = admin.change("created", |keys, tenant| keys.create(tenant.as_tenant())).await?;
    Ok((StatusCode::CREATED, made).into_response())
}

/// Makes a new version.
pub async fn rotate(admin: Admin) -> Result<Response, Problem> {
    admin
        .change("rotated", |keys, tenant| {
            Ok(keys.keyring().rotate(tenant.as_tenant(), keys.now(), &mut SysRng)?)
        })
        .await
}

/// Says which versions open.
pub async fn change(admin: Admin, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let KeyChange { min_decrypt_version, trim, force } = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let minimum = Minimum { version: min_decrypt_version, trim, force };
    let kept = admin.api.trail.retention().clone();
    let what = if trim { "trimmed" } else { "minimum set" };
    admin.change(what, move |keys, tenant| keys.set_minimum(tenant, minimum, &kept)).await
}

/// Seals kept values anew under the newest version, and wraps the keys under the present root key.
pub async fn rewrap(admin: Admin) -> Result<Response, Problem> {
    let now = admin.api.clock.now();
    let done = admin.api.keys.rewrap_tenant(&admin.tenant, now).await;
    let done = done.map_err(|error| admin.api.keys_problem(&error))?;
    admin.record("rewrapped");
    Ok(json(&Rewrapped {
        tenant_id: admin.tenant.to_string(),
        root_changed: done.root_changed,
        values_resealed: done.resealed,
        values_unreadable: done.unreadable,
        timestamp: rfc3339(now),
    }))
}

/// Deletes all versions, for good, and takes out of the events what they show of people.
pub async fn shred(admin: Admin) -> Result<Response, Problem> {
    let erased = admin.api.keys.shred(&admin.tenant).await;
    let events_erased = erased.map_err(|error| admin.api.keys_problem(&error))?;
    admin.record("shredded");
    Ok(json(&Shredded {
        tenant_id: admin.tenant.to_string(),
        shredded: true,
        events_erased,
        timestamp: rfc3339(admin.api.clock.now()),
    }))
}
