//! What stands in a path.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;

use crate::http::problem::Problem;

/// The tenant in a path, as it came.
pub type TenantPath = Result<Path<String>, PathRejection>;

/// The tenant's name, if it is text.
pub fn tenant_name(path: TenantPath) -> Result<String, Problem> {
    let Path(name) = path.map_err(|_| Problem::malformed("tenant_id: must be percent-encoded UTF-8"))?;
    Ok(name)
}
