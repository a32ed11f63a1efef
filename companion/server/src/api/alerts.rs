//! `/api/alerts`: what fires, from which figures on, and who is told. For the admin scope alone: a webhook makes the companion connect to a
//! place.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paths::PlainName;
use super::{Api, auth};
use crate::alerts::board::{Incident, Status};
use crate::alerts::config::{self, ConfigError, MOST, Setting, Webhook};
use crate::alerts::rule::{RULES, Rule};
use crate::alerts::webhook::SigningSecret;
use crate::alerts::{ENVIRONMENT, rule};
use crate::clock::rfc3339;
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::token::Grant;

const MAX_BODY_BYTES: usize = 64 * 1024;

/// What fires, what is looked at, who is told.
#[derive(Serialize, JsonSchema)]
pub struct AlertsBody {
    /// Those that go on first, then those that are over, newest first.
    alerts: Vec<AlertBody>,
    rules: Vec<RuleBody>,
    webhooks: Vec<WebhookBody>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// An incident.
#[derive(Serialize, JsonSchema)]
pub struct AlertBody {
    alert_id: String,
    rule: String,
    /// Whose; null: of the companion as a whole.
    tenant_id: Option<String>,
    /// `pending` (nobody is told yet), `firing` or `resolved`.
    status: &'static str,
    /// `warning` or `critical`.
    severity: &'static str,
    /// The figure now, or when it was last above the threshold.
    value: f64,
    threshold: f64,
    unit: &'static str,
    summary: &'static str,
    /// What to do.
    action: &'static str,
    /// RFC 3339, UTC.
    began_at: String,
    /// RFC 3339, UTC.
    fired_at: Option<String>,
    /// RFC 3339, UTC.
    resolved_at: Option<String>,
}

/// A rule, as it holds.
#[derive(Serialize, JsonSchema)]
pub struct RuleBody {
    name: &'static str,
    enabled: bool,
    /// The figure must be above this,
    threshold: f64,
    /// for so long.
    hold_seconds: u32,
    unit: &'static str,
    /// `warning` or `critical`.
    severity: &'static str,
    summary: &'static str,
    /// What to do.
    action: &'static str,
}

/// What is to be changed of a rule; what is left out takes its default again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleChange {
    /// The figure must be above this.
    #[schemars(range(min = 0))]
    threshold: Option<f64>,
    /// For so long.
    #[schemars(range(max = 86400))]
    hold_seconds: Option<u32>,
    enabled: Option<bool>,
}

/// A webhook. Of its address only the host is told, and its secret only once.
#[derive(Serialize, JsonSchema)]
pub struct WebhookBody {
    name: String,
    /// Scheme, host and port.
    target: String,
    /// Messages that it took.
    delivered: u64,
    /// Tries that failed.
    failed: u64,
    /// Messages that it has not taken yet.
    waiting: usize,
    /// When it took one last; RFC 3339, UTC.
    last_delivered_at: Option<String>,
    /// Why the last try failed, and what to do.
    problem: Option<String>,
    /// What messages are signed with, if it was made by this answer; it is not told again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// Who is to be told.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookDeclaration {
    /// `https://HOST[:PORT]/PATH`; `http://` only where ALERT_TARGETS_ALLOW names the address.
    #[schemars(length(max = 2000))]
    url: String,
    /// `whsec_` and the base64 of 24 to 64 bytes; made when left out.
    #[serde(default)]
    secret: Option<String>,
}

/// What came of a test.
#[derive(Serialize, JsonSchema)]
pub struct Tried {
    name: String,
    delivered: bool,
    /// Why not, and what to do.
    problem: Option<String>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// A webhook is gone.
#[derive(Serialize, JsonSchema)]
pub struct WebhookRemoved {
    name: String,
    removed: bool,
    /// RFC 3339, UTC.
    timestamp: String,
}

fn shown(incident: Incident) -> AlertBody {
    let rule = incident.rule();
    AlertBody {
        alert_id: incident.id,
        rule: incident.rule,
        tenant_id: incident.tenant,
        status: match incident.status {
            Status::Pending => "pending",
            Status::Firing => "firing",
            Status::Resolved => "resolved",
        },
        severity: rule.map_or("", |rule| rule.grade.as_str()),
        value: incident.value,
        threshold: incident.threshold,
        unit: rule.map_or("", |rule| rule.unit),
        summary: rule.map_or("", |rule| rule.summary),
        action: rule.map_or("", |rule| rule.action),
        began_at: rfc3339(incident.began_at),
        fired_at: incident.fired_at.map(rfc3339),
        resolved_at: incident.resolved_at.map(rfc3339),
    }
}

fn rule_body(config: &config::Config, rule: &'static Rule) -> RuleBody {
    let setting = config.of(rule);
    RuleBody {
        name: rule.name,
        enabled: setting.enabled.unwrap_or(true),
        threshold: setting.threshold.unwrap_or(rule.threshold),
        hold_seconds: setting.hold_seconds.unwrap_or_default(),
        unit: rule.unit,
        severity: rule.grade.as_str(),
        summary: rule.summary,
        action: rule.action,
    }
}

fn webhook_body(api: &Api, name: &str, webhook: &Webhook, secret: Option<String>) -> WebhookBody {
    let (delivery, waiting) = api.alerts.delivery(name);
    WebhookBody {
        name: name.to_owned(),
        target: webhook.target.to_string(),
        delivered: delivery.delivered,
        failed: delivery.failed,
        waiting,
        last_delivered_at: delivery.last.map(rfc3339),
        problem: delivery.problem,
        secret,
    }
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown-webhook", "there is no webhook of this name; PUT adds one")
}

fn unwritten(error: &ConfigError) -> Problem {
    tracing::error!(category = "application", %error, "alerts were not configured");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-written",
        "the file of the alerts' configuration cannot be written; the log tells why",
    )
}

/// All.
pub async fn list(State(api): State<Api>, Extension(grant): Extension<Grant>) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let config = api.alerts.config();
    let webhooks = api.alerts.webhooks();
    Ok(json(&AlertsBody {
        alerts: api.alerts.incidents().into_iter().map(shown).collect(),
        rules: RULES.iter().map(|rule| rule_body(&config, rule)).collect(),
        webhooks: webhooks.iter().map(|(name, webhook)| webhook_body(&api, name, webhook, None)).collect(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Changes a rule.
pub async fn change_rule(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    PlainName(name): PlainName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let rule = rule::find(&name).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-rule",
            "there is no such rule; GET /api/alerts lists them",
        )
    })?;
    let change: RuleChange = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let setting =
        Setting { threshold: change.threshold, hold_seconds: change.hold_seconds, enabled: change.enabled };
    config::check(&name, setting).map_err(Problem::unprocessable)?;
    let written = api.alerts.change(|config| match setting == Setting::default() {
        true => drop(config.rules.remove(&name)),
        false => drop(config.rules.insert(name.clone(), setting)),
    });
    written.await.map_err(|error| unwritten(&error))?;
    audited(&grant, &correlation_id, rule.name, "an alert's rule was changed");
    Ok(json(&rule_body(&api.alerts.config(), rule)))
}

/// Adds or changes a webhook.
pub async fn put_webhook(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    PlainName(name): PlainName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let name = own(name)?;
    let declared: WebhookDeclaration = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let made = match &declared.secret {
        Some(_) => None,
        None => Some(SigningSecret::random().map(|secret| secret.text()).map_err(|error| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-random", error.to_string())
        })?),
    };
    let secret = declared.secret.as_ref().or(made.as_ref()).map_or("", String::as_str);
    let webhook =
        Webhook::new(&declared.url, secret).map_err(|error| Problem::unprocessable(error.to_string()))?;
    let written = api.alerts.change(|config| {
        let known = config.webhooks.contains_key(&name);
        if known || config.webhooks.len() < MOST {
            config.webhooks.insert(name.clone(), webhook.clone());
            Some(known)
        } else {
            None
        }
    });
    let Some(known) = written.await.map_err(|error| unwritten(&error))? else {
        let detail = format!("there are at most {MOST} webhooks; remove one first");
        return Err(Problem::new(StatusCode::CONFLICT, "too-many", detail));
    };
    audited(&grant, &correlation_id, &name, "a webhook for alerts was set");
    let status = if known { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, json(&webhook_body(&api, &name, &webhook, made))).into_response())
}

/// Removes a webhook.
pub async fn remove_webhook(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    PlainName(name): PlainName,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let name = own(name)?;
    let removed = api.alerts.change(|config| config.webhooks.remove(&name).is_some());
    if !removed.await.map_err(|error| unwritten(&error))? {
        return Err(unknown());
    }
    audited(&grant, &correlation_id, &name, "a webhook for alerts was removed");
    Ok(json(&WebhookRemoved { name, removed: true, timestamp: rfc3339(api.clock.now()) }))
}

/// Sends a webhook a message that says nothing, and tells what came of it.
pub async fn test_webhook(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    PlainName(name): PlainName,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let webhook = api.alerts.webhooks().remove(&name).ok_or_else(unknown)?;
    let problem = api.alerts.try_out(&webhook).await.err().map(|error| error.reason);
    let timestamp = rfc3339(api.clock.now());
    Ok(json(&Tried { name, delivered: problem.is_none(), problem, timestamp }))
}

fn own(name: String) -> Result<String, Problem> {
    match name == ENVIRONMENT {
        true => Err(Problem::unprocessable("name: this webhook is set by ALERT_WEBHOOK_URL")),
        false => Ok(name),
    }
}

fn audited(grant: &Grant, correlation_id: &CorrelationId, name: &str, what: &'static str) {
    tracing::info!(
        category = "audit",
        correlation_id = correlation_id.as_str(),
        token_id = grant.id,
        name,
        "{what}"
    );
}
