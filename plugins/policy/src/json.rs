//! JSON values that policies hand to records: `serde_json`'s own, named here so that the seam names its types.

pub use serde_json::{Map, Value, json};

/// A JSON object.
pub type Object = Map<String, Value>;
