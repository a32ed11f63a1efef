//! `POST /v1/policies`: a module names the tenants that it has seen and the versions that it knows, and is told the rates
//! of those that have changed.
//!
//! ```json
//! {"process": "9f2c00000000abcd", "tenants": [["acme", 7], ["beta", 0]]}
//! ```
//! is answered
//! ```json
//! {"changed": [{"tenant": "acme", "version": 8, "rates": {"api_calls_per_minute": 100, ...}}]}
//! ```
//! A version is a number that differs whenever the rates do, and has no order; 0 knows nothing. A tenant without a policy of
//! its own has the companion's defaults.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use portcullis_limits::quota::Quota;
use portcullis_limits::wire::process;
use serde::{Deserialize, Serialize};

use super::leases::read_json;
use super::{LimitsError, LocalShare, Rates, Rule};
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::ingest::Ingest;
use crate::tenant::TenantId;

/// Tenants of one call.
pub const TENANTS: usize = 1000;

/// Who has which rates.
#[derive(Clone)]
pub struct Policies {
    of_tenants: crate::policies::Policies,
    share: LocalShare,
}

impl Policies {
    /// What each tenant has set, over the defaults; `share` of it the modules spend without tokens.
    #[must_use]
    pub fn new(of_tenants: crate::policies::Policies, share: LocalShare) -> Self {
        Self { of_tenants, share }
    }

    /// What may be spent of a tenant's limit without a lease.
    ///
    /// # Errors
    /// When the store does not answer. `Ok(None)`: the rate cannot be counted.
    pub async fn quota(&self, tenant: &TenantId, rule: Rule) -> Result<Option<Quota>, LimitsError> {
        let rates = self.rates(std::slice::from_ref(tenant)).await?;
        Ok(rates.first().and_then(|rates| rule.quota(rates, self.share)))
    }

    /// The rates in force for each tenant, in order.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn rates(&self, tenants: &[TenantId]) -> Result<Vec<Rates>, LimitsError> {
        let known = self.of_tenants.known(tenants).await;
        let known = known.map_err(|error| LimitsError::Unavailable(error.to_string()))?;
        Ok(known.iter().map(|policies| Rates::from(&policies.rate)).collect())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    process: String,
    tenants: Vec<(String, u64)>,
}

#[derive(Serialize)]
struct Changes {
    changed: Vec<Policy>,
}

/// A tenant's rates.
#[derive(Serialize)]
pub struct Policy {
    tenant: String,
    version: u64,
    rates: Rates,
}

/// Answers a module.
pub async fn pull(State(ingest): State<Ingest>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let call: Call = read_json(&headers, body).await?;
    process(&call.process).ok_or_else(|| Problem::malformed("process: must be 16 hexadecimal digits"))?;
    if call.tenants.len() > TENANTS {
        return Err(Problem::malformed("tenants: must be at most 1000"));
    }
    let tenants: Vec<TenantId> = call
        .tenants
        .iter()
        .enumerate()
        .map(|(index, (name, _))| {
            TenantId::new(name).map_err(|error| Problem::malformed(format!("tenants[{index}]: {error}")))
        })
        .collect::<Result<_, _>>()?;
    let rates = ingest.limits.policies.rates(&tenants).await.map_err(|error| super::leases::away(&error))?;
    let changed = call.tenants.into_iter().zip(rates).filter_map(|((tenant, known), rates)| {
        let version = rates.version();
        (version != known).then_some(Policy { tenant, version, rates })
    });
    Ok(json(&Changes { changed: changed.collect() }))
}
