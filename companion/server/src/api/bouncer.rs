//! `/api/database/pgbouncer`: how the PgBouncer fares that the companion manages. For the admin scope: it names all tenants.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use portcullis_database::bouncer::console::Figures;
use schemars::JsonSchema;
use serde::Serialize;

use super::status::millis;
use super::{Api, auth};
use crate::bouncer::Starter;
use crate::clock::rfc3339;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::token::Grant;

/// How PgBouncer fares.
#[derive(Default, Serialize, JsonSchema)]
pub struct BouncerBody {
    /// Whether there is one that the companion manages.
    managed: bool,
    /// Whether its console answers.
    up: bool,
    /// What is wrong, and what to do; null when nothing is.
    problem: Option<String>,
    /// `companion`, or `outside` when somebody else starts it; null when there is none.
    started_by: Option<&'static str>,
    /// Its process, if the companion has started it.
    process: Option<u32>,
    /// Its release; empty until it has told.
    version: String,
    /// Where tenants' programs connect to.
    address: String,
    /// How often it ended and was started again.
    restarts: u64,
    /// How often it has read its files anew.
    reloads: u64,
    /// By tenant.
    databases: BTreeMap<String, BouncerFigures>,
    /// Tenants with a server that are not reached through it, and why.
    not_offered: BTreeMap<String, String>,
    /// What it tells of itself (`SHOW LISTS`).
    lists: BTreeMap<String, u64>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// What PgBouncer counts of a tenant's database since it has started.
#[derive(Serialize, JsonSchema)]
pub struct BouncerFigures {
    /// Where these figures come from.
    source: &'static str,
    /// Connections to the server that the tenant may have.
    pool_size: usize,
    /// Clients that have a server, or need none.
    clients_active: u64,
    /// Clients that wait for a server.
    clients_waiting: u64,
    /// Connections to the server with a client.
    servers_active: u64,
    /// Without.
    servers_idle: u64,
    /// How long the client that waits longest has waited.
    longest_wait_ms: f64,
    /// Transactions.
    transaction_count: u64,
    /// Statements.
    query_count: u64,
    /// Time in statements, all together.
    query_ms: f64,
    /// Time that clients waited for a server, all together.
    wait_ms: f64,
    /// Bytes from clients.
    received_bytes: u64,
    /// Bytes to clients.
    sent_bytes: u64,
}

impl BouncerFigures {
    /// Of a tenant with so many connections.
    pub fn new(figures: Figures, pool_size: usize) -> Self {
        Self {
            source: "pgbouncer",
            pool_size,
            clients_active: figures.clients_active,
            clients_waiting: figures.clients_waiting,
            servers_active: figures.servers_active,
            servers_idle: figures.servers_idle,
            longest_wait_ms: millis(figures.longest_wait),
            transaction_count: figures.transactions,
            query_count: figures.queries,
            query_ms: millis(figures.query_time),
            wait_ms: millis(figures.wait_time),
            received_bytes: figures.received,
            sent_bytes: figures.sent,
        }
    }
}

/// How it fares.
pub async fn read(State(api): State<Api>, Extension(grant): Extension<Grant>) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let Some(bouncer) = &api.bouncer else {
        let problem =
            "no PgBouncer is managed here; set PGBOUNCER to its program, or to `outside`".to_owned();
        let timestamp = rfc3339(api.clock.now());
        return Ok(json(&BouncerBody { problem: Some(problem), timestamp, ..BouncerBody::default() }));
    };
    let (state, options, (restarts, reloads)) = (bouncer.state(), bouncer.options(), bouncer.counts());
    let of = |(name, size): (&String, &usize)| {
        let figures = state.report.databases.get(name).copied().unwrap_or_default();
        (name.clone(), BouncerFigures::new(figures, *size))
    };
    Ok(json(&BouncerBody {
        managed: true,
        up: state.up,
        problem: state.problem,
        started_by: Some(match options.starter {
            Starter::Companion(_) => "companion",
            Starter::Outside => "outside",
        }),
        process: state.process,
        version: state.report.version,
        address: std::net::SocketAddr::new(options.address, options.port).to_string(),
        restarts,
        reloads,
        databases: state.sizes.iter().map(of).collect(),
        not_offered: state.not_offered,
        lists: state.report.lists,
        timestamp: rfc3339(api.clock.now()),
    }))
}
