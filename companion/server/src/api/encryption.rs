//! `POST /api/security/encrypt` and `/decrypt`: an application has its values sealed under its tenant's key and opened again; also
//! those that a proxy has sealed (`plugins/seal`).
//!
//! A value is bound to its tenant and its data type. Plaintext is in no log; that somebody encrypted or decrypted is, with
//! the token's number. Limits: 64 KiB a body.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paths::{Beside, OpenedTenant};
use super::texts::{self, Width};
use super::{Api, auth};
use crate::clock::rfc3339;
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::tenant::TenantId;
use crate::token::{Grant, Scope};

const MAX_BODY_BYTES: usize = 64 * 1024;

/// What is to be sealed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// The value.
    data: String,
    /// What kind of value it is, as `iban`; it must be the same when the value is opened.
    #[schemars(regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,50}$"))]
    data_type: String,
    /// The tenant; left out, the token's own.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[!-~]{1,50}$"))]
    tenant_id: Option<String>,
    /// Whether the sealed value is kept here too, under an `id`; true when left out.
    #[serde(default = "kept")]
    store: bool,
}

fn kept() -> bool {
    true
}

/// A value that was sealed.
#[derive(Serialize, JsonSchema)]
pub struct SealedBody {
    tenant_id: String,
    /// Under which it is kept; null when it is not.
    id: Option<i64>,
    data_type: String,
    /// The envelope in base64 (`companion/keyring/ENVELOPE.md`).
    encrypted_value: String,
    /// Tenant and version of the key, as `acme:3`.
    encryption_key_id: String,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// What is to be opened: `data` with its `data_type`; `data` that a proxy has sealed, with its `field`; or the `id` of a value that is
/// kept here.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ciphered {
    /// An `encrypted_value`.
    #[serde(default)]
    data: Option<String>,
    /// The kind of value that it was sealed as.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,50}$"))]
    data_type: Option<String>,
    /// In place of `data_type`: the field that a proxy has sealed, like `header x-card` or `json /card/number`.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1024))]
    field: Option<String>,
    /// With `field`: the purpose that it was sealed for; `edge` when left out.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    purpose: Option<String>,
    /// In place of all these.
    #[serde(default)]
    id: Option<i64>,
    /// The tenant; left out, the token's own.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[!-~]{1,50}$"))]
    tenant_id: Option<String>,
}

/// A value that was opened.
#[derive(Serialize, JsonSchema)]
pub struct Opened<'a> {
    tenant_id: String,
    /// The kind of value that it was sealed as, or the field that a proxy has sealed.
    data_type: String,
    data: &'a str,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// A kept value is gone.
#[derive(Serialize, JsonSchema)]
pub struct Discarded {
    tenant_id: String,
    id: i64,
    removed: bool,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// The tenant that a body names, or the token's own.
async fn tenant_of(api: &Api, grant: &Grant, named: Option<String>) -> Result<TenantId, Problem> {
    match (named, &grant.scope) {
        (Some(name), _) => auth::open_tenant(api, grant, &name).await,
        (None, Scope::Tenant(own)) => auth::open_tenant(api, grant, own.as_str()).await,
        (None, Scope::Admin) => {
            Err(Problem::unprocessable("tenant_id: must be given with a token of the admin scope"))
        }
    }
}

/// Seals a value.
pub async fn encrypt(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let plain: Plain = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let data = plain.data.into_bytes();
    let data_type = texts::required("data_type", plain.data_type, Width(50))?;
    let tenant = tenant_of(&api, &grant, plain.tenant_id).await?;
    let now = api.clock.now();
    let sealed = api.keys.encrypt_sensitive_data(data, &tenant, &data_type).await;
    let sealed = sealed.map_err(|error| api.keys_problem(&error))?;
    let id = match plain.store {
        true => Some(api.keys.keep(&tenant, &data_type, &sealed, now).await),
        false => None,
    };
    let id = id.transpose().map_err(|error| api.keys_problem(&error))?;
    let answer = json(&SealedBody {
        tenant_id: tenant.to_string(),
        id,
        data_type,
        encrypted_value: sealed.value,
        encryption_key_id: sealed.key_id,
        timestamp: rfc3339(now),
    });
    let status = if id.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, answer).into_response())
}

/// Opens a value.
pub async fn decrypt(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let ciphered: Ciphered = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let tenant = tenant_of(&api, &grant, ciphered.tenant_id).await?;
    let Ciphered { data, data_type, field, purpose, id, .. } = ciphered;
    let (opened, data_type) = match (data, data_type, field, id) {
        (Some(data), None, Some(field), None) => {
            let purpose = purpose.unwrap_or_else(|| "edge".to_owned());
            (api.keys.open_edge(&data, &tenant, field.clone(), purpose).await, field)
        }
        (Some(data), Some(data_type), None, None) if purpose.is_none() => {
            let data_type = texts::required("data_type", data_type, Width(50))?;
            (api.keys.decrypt_sensitive_data(&data, &tenant, &data_type).await, data_type)
        }
        (None, None, None, Some(id)) if purpose.is_none() => {
            let kept = api.keys.kept(&tenant, id).await.map_err(|error| api.keys_problem(&error))?;
            let (value, data_type) = kept.ok_or_else(unknown_value)?;
            (api.keys.decrypt_sensitive_data(&value, &tenant, &data_type).await, data_type)
        }
        _ => {
            let remedy = "data: give data and data_type, data and field (and purpose), or id alone";
            return Err(Problem::unprocessable(remedy));
        }
    };
    let opened = opened.map_err(|error| api.keys_problem(&error))?;
    let data = std::str::from_utf8(opened.expose()).map_err(|_| {
        Problem::unprocessable("data: the value is no text; open it with `portcullis keys open`")
    })?;
    Ok(json(&Opened { tenant_id: tenant.to_string(), data_type, data, timestamp: rfc3339(api.clock.now()) }))
}

/// Removes a kept value.
pub async fn discard(
    State(api): State<Api>,
    OpenedTenant(tenant): OpenedTenant,
    Beside(id): Beside,
) -> Result<Response, Problem> {
    let id = id.parse().map_err(|_| Problem::malformed("value_id: must be a whole number"))?;
    if !api.keys.discard(&tenant, id).await.map_err(|error| api.keys_problem(&error))? {
        return Err(unknown_value());
    }
    Ok(json(&Discarded {
        tenant_id: tenant.to_string(),
        id,
        removed: true,
        timestamp: rfc3339(api.clock.now()),
    }))
}

fn unknown_value() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown-value", "the tenant has no kept value of this id")
}
