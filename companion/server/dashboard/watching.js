"use strict";
// What is watched by itself: alerts that fire, and what an administrator has measured of a tenant's database.

async function showAlerts() {
  const { alerts } = await ask("/api/alerts");
  const firing = alerts.filter(alert => alert.status === "firing");
  show(at("alerts"), firing, all => all.map(alert => {
    const item = element("li", null, { class: alert.severity });
    item.append(element("strong", alert.tenant_id ? `${alert.tenant_id}: ${alert.summary}` : alert.summary),
      ` ${alert.value} ${alert.unit}, more than ${alert.threshold}, since ${moment(alert.fired_at || alert.began_at)}`,
      element("p", alert.action, { class: "fix" }));
    return item;
  }));
  at("alerts-none").hidden = firing.length > 0;
}

async function showBusiness(tenant) {
  const { business_metrics: metrics } = await ask(`/api/tenants/${encodeURIComponent(tenant)}/business-metrics`);
  if (tenant !== state.tenant) return;
  at("business-section").hidden = !metrics.length;
  const rows = metrics.map(({ name, value, unit, measured_at, problem }) => ({ name, value, unit, measured_at, problem }));
  show(at("business").tBodies[0], rows, all => all.map(metric => {
    const row = line(metric.name, metric.value ?? "–", metric.unit, metric.measured_at ? moment(metric.measured_at) : "", metric.problem || "");
    if (metric.problem) row.className = "near";
    return row;
  }));
}
