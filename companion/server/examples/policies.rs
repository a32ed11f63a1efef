//! What a million tenants with policies of their own cost: `cargo run --release -p portcullis-server --example policies`.
//!
//! Another process writes them into the embedded store, and later changes all of them. Told is how long it then takes until
//! the policies of a thousand tenants are known here, as a module's call asks for them.
#![allow(clippy::unwrap_used, reason = "a measurement ends when it cannot go on")]

use std::sync::Arc;
use std::time::Duration;

use portcullis_server::clock::monotonic;
use portcullis_server::policies::{Policies, SecurityPolicies};
use portcullis_server::storage::sqlite::SqliteStorage;
use portcullis_server::tenant::TenantId;

const TENANTS: u32 = 1_000_000;
/// Of one call.
const ASKED: u32 = 1000;
/// What was read counts for a second.
const LIFE: Duration = Duration::from_millis(1100);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("companion.db");
    let storage = Arc::new(SqliteStorage::open(&path, Default::default()).unwrap());
    let policies = Policies::new(storage, SecurityPolicies::default());
    let other = rusqlite::Connection::open(&path).unwrap();
    let asked: Vec<TenantId> =
        (0..ASKED).map(|n| TenantId::new(&format!("tenant-{}", n * (TENANTS / ASKED))).unwrap()).collect();
    for (what, rate) in [("written", 7), ("changed", 8), ("changed again", 9)] {
        let started = monotonic();
        let own = format!(r#"{{"rate": {{"api_calls_per_minute": {rate}}}}}"#);
        other
            .execute(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1) \
                 INSERT INTO security_policies (tenant_id, policy, version, created_at, updated_at) \
                 SELECT 'tenant-' || i, ?2, i + 1 + (SELECT coalesce(max(version), 0) FROM security_policies), \
                 '2026-03-01T12:00:00Z', '2026-03-01T12:00:00Z' FROM n WHERE true \
                 ON CONFLICT (tenant_id) DO UPDATE SET policy = excluded.policy, version = excluded.version",
                (TENANTS, own),
            )
            .unwrap();
        let written = started.elapsed();
        tokio::time::sleep(LIFE).await;
        let started = monotonic();
        let known = policies.known(&asked).await.unwrap();
        let took = started.elapsed();
        assert!(known.iter().all(|known| known.rate.api_calls_per_minute == rate));
        let started = monotonic();
        policies.known(&asked).await.unwrap();
        println!(
            "{TENANTS} policies {what} by another process ({:.1} s): {ASKED} of them known after {:.1} ms, then again after {:.2} ms",
            written.as_secs_f64(),
            took.as_secs_f64() * 1e3,
            started.elapsed().as_secs_f64() * 1e3,
        );
    }
}
