//! What is done to tenants' databases, as events: so that it is in the audit trail, and every companion on the store knows of it.

use serde_json::{Map, Value};

use super::Databases;
use crate::event::{Event, EventType, Severity, What};
use crate::tenant::TenantId;

impl Databases {
    /// Writes into the audit trail what was done. A trail that does not take it changes nothing; it is logged.
    pub(super) async fn tell(&self, tenant: &TenantId, name: &str, severity: Severity, details: Value) {
        let (Some(key), Some(event_type)) = (self.0.numbering.next(), EventType::new(name)) else { return };
        let details = match details {
            Value::Object(details) => details,
            _ => Map::new(),
        };
        let what = What { tenant: tenant.clone(), event_type, severity, at: self.0.clock.now() };
        let event = Event::own(key, what, details);
        if let Err(error) = self.0.trail.append(vec![event]).await {
            tracing::error!(category = "audit", %error, name, "what was done to a database was not written into the audit trail");
        }
    }
}
