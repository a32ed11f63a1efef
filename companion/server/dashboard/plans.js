"use strict";
// Slow statements with their plans, and plans of indexes: approved, applied and taken back.

const DO = {
  approve: { label: "Approve", from: ["planned"], said: "approving …" },
  apply: { label: "Apply", from: ["approved"], said: "building …" },
  rollback: { label: "Roll back", from: ["applying", "observing", "kept", "failed"], said: "taking back …" },
};

const COLUMNS = ["Index", "Cost", "Size", "Write tax", "Confidence", "State"];

const counted = (number, one, many) => `${number} ${number === 1 ? one : many}`;

function statements(rows) {
  return rows.map(row => line(
    row.execution_time.toFixed(3), steps(row.statement, row.plan), row.rows ?? "", when(row.timestamp)));
}

function regressions(rows) {
  return rows.map(row => line(
    row.execution_time.toFixed(3), row.usual_time.toFixed(3), steps(row.statement, row.plan), when(row.timestamp)));
}

// A statement, and what its plan does when somebody wants to see it.
function steps(statement, plan) {
  const place = element("div");
  place.append(element("code", statement));
  if (plan && plan.length) {
    const more = element("details");
    more.append(element("summary", `plan: ${plan[0]}`), element("pre", plan.join("\n")));
    place.append(more);
  }
  return place;
}

function confidence(step) {
  const place = element("div");
  const { by, explanation, interval } = step.confidence;
  const told = interval ? `${by}: ${percent(interval.share)} of the time before (95 %: ${percent(interval.low)} to ${percent(interval.high)})` : by;
  place.append(element("span", told, { class: `confidence ${by}`, title: explanation }), element("p", explanation, { class: "hint" }));
  return place;
}

function stepRow(step) {
  const what = element("div");
  what.append(element("code", step.create));
  for (const reason of step.reasons) what.append(element("p", reason, { class: "hint" }));
  const fate = element("div", step.state);
  for (const why of [step.reason, step.state === "planned" && step.not_permitted]) if (why) fate.append(element("p", why, { class: "hint" }));
  const grown = step.built_bytes === null ? `${size(step.size_bytes)} foreseen` : size(step.built_bytes);
  const cells = line(what, `${step.cost_before.toFixed(0)} → ${step.cost_after.toFixed(0)} (${percent(step.saves)} of all)`, grown,
    `+${percent(step.write_tax)}`, confidence(step), fate);
  return cells;
}

function planned(plan) {
  const admin = state.session && state.session.scope === "admin";
  const place = element("article", null, { class: `plan ${plan.state}`, "aria-label": `plan ${plan.plan_id}` });
  const head = element("header");
  head.append(element("h4", `Plan ${plan.plan_id}`), element("strong", plan.state.replaceAll("_", " "), { class: "badge" }),
    element("span", `${counted(plan.steps.length, "index", "indexes")}, ${size(plan.size_bytes)}`, { class: "dim" }));
  for (const [what, { label, from, said }] of Object.entries(DO)) {
    if (!admin || !from.includes(plan.state)) continue;
    const button = element("button", label, { type: "button", class: what === "rollback" ? "" : "first" });
    button.dataset.key = `${plan.plan_id} ${what}`;
    button.addEventListener("click", () => act(plan.plan_id, what, said));
    head.append(button);
  }
  const table = element("table"), titles = element("tr");
  for (const title of COLUMNS) titles.append(element("th", title, { scope: "col" }));
  table.createTHead().append(titles);
  table.createTBody().append(...plan.steps.map(stepRow));
  for (const row of table.tBodies[0].rows) entitle(row);
  const scroll = element("div", null, { class: "scroll" });
  scroll.append(table);
  const history = element("ol", null, { class: "timeline" });
  history.append(...plan.timeline.map(entry => {
    const point = element("li");
    point.append(element("time", moment(entry.at), { datetime: entry.at }), element("strong", entry.what.replaceAll("_", " ")), ` ${entry.by}`);
    if (entry.detail) point.append(element("p", entry.detail, { class: "hint" }));
    return point;
  }));
  place.append(head, scroll, history);
  return place;
}

async function showPlans() {
  const tenant = state.tenant;
  const { plans } = await ask(`/api/database/plans/${encodeURIComponent(tenant)}`);
  if (tenant !== state.tenant) return;
  show(at("plans"), plans, all => all.map(planned));
  at("plans-none").hidden = plans.length > 0;
}

async function act(plan, what, said) {
  const tenant = state.tenant;
  for (const button of at("plans").querySelectorAll("button")) button.disabled = true;
  at("optimize-state").textContent = said;
  try {
    const done = await ask(`/api/database/plans/${encodeURIComponent(tenant)}/${plan}/${what}`, { method: "POST" });
    if (tenant !== state.tenant) return;
    at("optimize-state").textContent = done.problem || (done.success === null ? "it goes on; the plan's history tells how far it is" : `plan ${plan}: ${done.plan.state.replaceAll("_", " ")}`);
  } catch (error) {
    at("optimize-state").textContent = error.message;
  } finally {
    delete at("plans").dataset.shown;
    if (tenant === state.tenant) await showPlans().catch(error => say(error.message, true));
  }
}

at("optimize").addEventListener("click", async () => {
  const tenant = state.tenant;
  state.looking = at("optimize").disabled = true;
  at("optimize-state").textContent = "looking …";
  try {
    const done = await ask(`/api/database/optimize/${encodeURIComponent(tenant)}`, { method: "POST" });
    if (tenant !== state.tenant) return;
    found(done);
    await showPlans();
  } catch (error) {
    at("optimize-state").textContent = error.message;
  } finally {
    state.looking = at("optimize").disabled = false;
  }
});

function found(done) {
  const told = done.plan || {}, findings = told.findings || [];
  fill("findings", findings, all => all.map(finding => line(
    finding.kind.replaceAll("_", " "), finding.bytes ? size(finding.bytes) : "", [finding.remedy], finding.reason)));
  const indexes = done.plans.reduce((sum, plan) => sum + plan.steps.length, 0);
  at("optimize-state").textContent = done.problem || (done.optimization_success === null ? "it goes on; look again"
    : told.without_indexes_because || (indexes + findings.length ? `${counted(indexes, "index", "indexes")}, ${counted(findings.length, "finding", "findings")}` : "nothing is lacking"));
}
