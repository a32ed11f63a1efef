//! `/api/tenants`: which tenants there are. For the admin scope alone.
//!
//! A tenant that is removed loses its keys, its sessions, its sealed values and its policies at once, and its tokens open nothing of a
//! tenant that is added later under its name. Its events stay until they are old enough, without what they told of people: an
//! audit trail is not something to take back. Nobody reads them through the API but the admin scope, when there is a tenant of that name
//! again.

use std::fmt::Display;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use portcullis_database::pool::target::{Rules, Target};
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::paths::NamedTenant;
use super::{Api, auth, parameters};
use crate::clock::rfc3339;
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::tenant::records::{self, Record, TenancyModel};
use crate::tenant::{TenantId, removal};
use crate::token::Grant;

const MAX_BODY_BYTES: usize = 4 * 1024;
const MAX_URL_BYTES: usize = 2000;
/// Tenants of one page.
const PAGE: u32 = 1000;

/// What an operator says of a tenant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantChange {
    /// How its data lies; `shared` when left out of a new tenant.
    #[serde(default)]
    tenancy_model: Option<TenancyModel>,
    /// The address of a database of its own, `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:PATH`: kept sealed, never told. It must be one
    /// that may be connected to (`DATABASE_TARGETS_ALLOW`, `DATABASE_SQLITE_FOLDER`).
    /// Null forgets it; left out, it stays.
    #[serde(default, deserialize_with = "told")]
    #[schemars(with = "Option<String>", length(max = 2000))]
    database_url: Option<Option<String>>,
}

/// Null is not the same as left out.
fn told<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// An address of a database, if it is one that may be connected to.
fn address(url: String, rules: &Rules) -> Result<Zeroizing<String>, Problem> {
    let url = Zeroizing::new(url);
    let refused = |why: &dyn Display| Problem::unprocessable(format!("database_url: {why}"));
    if url.len() > MAX_URL_BYTES || url.chars().any(char::is_control) {
        return Err(refused(&"has more than 2000 bytes, or control characters"));
    }
    Target::new(&url, rules).map_err(|error| refused(&error))?;
    Ok(url)
}

/// A tenant.
#[derive(Serialize, JsonSchema)]
pub struct TenantBody {
    tenant_id: String,
    tenancy_model: TenancyModel,
    /// Whether the address of a database of its own is kept; the address itself is never told.
    database_configured: bool,
    /// `operator`, or `traffic` for one that registered itself in a demonstration.
    origin: String,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC; null when nothing was ever changed.
    updated_at: Option<String>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Tenants by name.
#[derive(Serialize, JsonSchema)]
pub struct TenantList {
    tenants: Vec<String>,
    count: usize,
    /// Give it as `after` to read on; null when there are no more.
    next_after: Option<String>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// A tenant is gone.
#[derive(Serialize, JsonSchema)]
pub struct Removed {
    tenant_id: String,
    removed: bool,
    /// RFC 3339, UTC.
    timestamp: String,
}

fn answer(api: &Api, tenant: &TenantId, record: Record) -> Response {
    json(&TenantBody {
        tenant_id: tenant.to_string(),
        tenancy_model: record.tenancy_model,
        database_configured: record.database_configured,
        origin: record.origin,
        created_at: rfc3339(record.created_at),
        updated_at: record.updated_at.map(rfc3339),
        timestamp: rfc3339(api.clock.now()),
    })
}

/// Those that exist.
pub async fn list(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    uri: Uri,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let after = parameters::only(&uri, "after")?.map(|name| TenantId::new(&name)).transpose();
    let after = after.map_err(|error| Problem::malformed(format!("after: {error}")))?;
    let tenants = api.query(records::list(&*api.storage, after.as_ref(), PAGE)).await?;
    let full = u32::try_from(tenants.len()).is_ok_and(|count| count == PAGE);
    Ok(json(&TenantList {
        next_after: tenants.last().filter(|_| full).map(TenantId::to_string),
        count: tenants.len(),
        tenants: tenants.iter().map(TenantId::to_string).collect(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// One.
pub async fn read(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    NamedTenant(tenant): NamedTenant,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let record = api.query(records::find(&*api.storage, &tenant)).await?.ok_or_else(auth::unknown_tenant)?;
    Ok(answer(&api, &tenant, record))
}

/// Adds or changes one.
pub async fn put(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    NamedTenant(tenant): NamedTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let change: TenantChange = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let url = change.database_url.map(|url| url.map(|url| address(url, api.databases.rules())).transpose());
    let url = url.transpose()?;
    let now = api.clock.now();
    let before = api.query(records::find(&*api.storage, &tenant)).await?;
    let model = change.tenancy_model.or_else(|| before.as_ref().map(|record| record.tenancy_model));
    let mut record = api.query(records::put(&*api.storage, &tenant, model.unwrap_or_default(), now)).await?;
    if let Some(url) = url {
        record.database_configured = url.is_some();
        api.keys.set_database_url(&tenant, url, now).await.map_err(|error| api.keys_problem(&error))?;
        api.databases.refresh(&tenant).await.map_err(|error| api.keys_problem(&error))?;
    }
    let status = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, answer(&api, &tenant, record)).into_response())
}

/// Removes one.
pub async fn remove(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    NamedTenant(tenant): NamedTenant,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let now = api.clock.now();
    let removed = removal::remove(&*api.storage, &api.keys, &api.policies, &tenant, now).await;
    if !removed.map_err(|error| api.keys_problem(&error))? {
        return Err(auth::unknown_tenant());
    }
    // What does not come to pass now does within seconds, by those who look through all tenants.
    if let Err(error) = api.databases.refresh(&tenant).await {
        tracing::warn!(category = "application", tenant = tenant.as_str(), %error, "a removed tenant's database is let go later");
    }
    tracing::warn!(
        category = "audit",
        correlation_id = correlation_id.as_str(),
        tenant = tenant.as_str(),
        token_id = grant.id,
        "tenant removed"
    );
    Ok(json(&Removed { tenant_id: tenant.to_string(), removed: true, timestamp: rfc3339(now) }))
}
