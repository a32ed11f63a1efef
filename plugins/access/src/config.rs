//! What an operator writes.

use portcullis_policy::Mode;
use serde::Deserialize;

use crate::{addresses::AddressesWire, cors::CorsWire, csrf::CsrfWire, origin::OriginWire};

/// The section `access`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "access"))]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// `monitor` refuses nothing and records what `enforce` would refuse.
    pub mode: Mode,
    /// From where requests may come. Left out: from anywhere.
    pub addresses: Option<AddressesWire>,
    /// What browsers say of where a request comes from. Left out: it is not looked at.
    pub origin: Option<OriginWire>,
    /// Tokens that only the own pages can send. Left out: none.
    pub csrf: Option<CsrfWire>,
    /// Which foreign pages may read answers. Left out: the application decides.
    pub cors: Option<CorsWire>,
}
