//! PgBouncer, business metrics, alerts.

use super::operation::Description;
use crate::api::{alerts, bouncer, business};

/// All of it.
pub(super) fn describe(all: &mut Description) {
    describe_bouncer(all);
    describe_business_metrics(all);
    describe_alerts(all);
}

fn describe_bouncer(all: &mut Description) {
    all.add("get", "/api/database/pgbouncer", "The PgBouncer that is managed (admin)")
        .answers::<bouncer::BouncerBody>("200", "How it fares, and each tenant's figures.")
        .done();
}

fn describe_business_metrics(all: &mut Description) {
    let path = "/api/tenants/{tenant_id}/business-metrics";
    all.add("get", path, "What is measured of a tenant's database (admin)")
        .answers::<business::MetricList>("200", "By name, with the newest numbers.")
        .done();
    let one = "/api/tenants/{tenant_id}/business-metrics/{name}";
    all.add("get", one, "A business metric (admin)")
        .answers::<business::MetricBody>("200", "What it gave last.")
        .done();
    all.add("put", one, "Declare or change a business metric (admin)")
        .takes::<business::MetricDeclaration>()
        .answers::<business::MetricBody>("200", "It was there, and is measured as asked for now.")
        .answers::<business::MetricBody>("201", "It is measured from now on.")
        .also(&["409"])
        .done();
    all.add("delete", one, "Forget a business metric (admin)")
        .answers::<business::MetricRemoved>("200", "It is gone.")
        .done();
}

fn describe_alerts(all: &mut Description) {
    all.add("get", "/api/alerts", "What fires, from which figures on, and who is told (admin)")
        .answers::<alerts::AlertsBody>("200", "Incidents, rules and webhooks.")
        .done();
    all.add("put", "/api/alerts/rules/{name}", "Change a rule (admin)")
        .takes::<alerts::RuleChange>()
        .answers::<alerts::RuleBody>("200", "As it holds now.")
        .done();
    let one = "/api/alerts/webhooks/{name}";
    all.add("put", one, "Add or change a webhook (admin)")
        .takes::<alerts::WebhookDeclaration>()
        .answers::<alerts::WebhookBody>("200", "It was there, and is told there now.")
        .answers::<alerts::WebhookBody>("201", "It is told from now on.")
        .also(&["409"])
        .done();
    all.add("delete", one, "Remove a webhook (admin)")
        .answers::<alerts::WebhookRemoved>("200", "It is told no more.")
        .also(&["422"])
        .done();
    all.add("post", "/api/alerts/webhooks/{name}/test", "Send a webhook a message that says nothing (admin)")
        .answers::<alerts::Tried>("200", "Whether it was taken, and if not, why.")
        .done();
}
