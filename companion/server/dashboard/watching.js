"use strict";
// What is watched by itself: the score, alerts that fire, and what an administrator has measured of a tenant's database.

// From here on it is good, and fair.
const GOOD = 90, FAIR = 50;

const word = score => score >= GOOD ? "good" : score >= FAIR ? "fair" : "poor";

async function showScore() {
  const summary = await ask("/monitoring/performance/summary");
  at("score").textContent = summary.score;
  at("score").className = word(summary.score);
  at("score-word").textContent = `of 100, ${word(summary.score)}; of the last ${summary.window_seconds / 60} minutes`;
  show(at("parts"), summary.parts, all => all.map(part => {
    const line = element("li"), head = element("header");
    head.append(element("strong", part.name), element("span", part.score, { class: word(part.score) }), element("span", `weight ${part.weight}`, { class: "dim" }));
    line.append(head, element("meter", `${part.score} of 100`,
      { min: 0, max: 100, low: FAIR, high: GOOD, optimum: 100, value: part.score, "aria-label": part.name }));
    for (const reason of part.reasons) line.append(element("p", reason));
    if (part.fix) line.append(element("p", part.fix, { class: "fix" }));
    return line;
  }));
}

async function showAlerts() {
  const { alerts } = await ask("/api/alerts");
  const firing = alerts.filter(alert => alert.status === "firing");
  show(at("alerts"), firing, all => all.map(alert => {
    const item = element("li", null, { class: alert.severity });
    item.append(element("strong", alert.tenant_id ? `${alert.tenant_id}: ${alert.summary}` : alert.summary),
      element("p", `${alert.severity}: ${alert.value} ${alert.unit}, more than ${alert.threshold}, since ${moment(alert.fired_at || alert.began_at)}`, { class: "hint" }),
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
    const row = line(metric.name, metric.value ?? "–", metric.unit, when(metric.measured_at), metric.problem || "");
    if (metric.problem) row.className = "near";
    return row;
  }));
}
