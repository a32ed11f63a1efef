"use strict";
// The page: who is signed in, what is asked every few seconds, one tenant.

// Signing in and out

async function begin() {
  try {
    state.session = await ask("/dashboard/session");
  } catch {
    return leave("");
  }
  const admin = state.session.scope === "admin";
  at("signin").hidden = true;
  at("board").hidden = false;
  at("who").textContent = admin ? "administrator" : `tenant ${state.session.tenant_id}`;
  for (const section of document.querySelectorAll(".admin")) section.hidden = !admin;
  at("close").hidden = !admin;
  legend();
  if (admin) draw();
  await poll();
  const linked = state.tenants.find(row => `#${encodeURIComponent(row.tenant_id)}` === location.hash);
  if (!admin) choose(state.session.tenant_id);
  else if (linked) choose(linked.tenant_id);
  state.timer = setInterval(poll, POLL_MS);
}

sessionEnded = () => leave("The session has ended; sign in again.");

function leave(problem) {
  clearInterval(state.timer);
  if (state.stream) state.stream.close();
  for (const chart of state.charts) chart.destroy();
  Object.assign(state, { session: null, tenant: null, stream: null, last: null, charts: [], tenants: [],
    traffic: [[], [], []], times: [[], [], []] });
  for (const id of ["tenants", "parts", "figures"]) clear(at(id));
  at("find").value = "";
  for (const told of document.querySelectorAll("#board .problem")) told.remove();
  for (const id of ["business", "slow", "slower", "findings", "events", "limits"]) clear(at(id).tBodies[0]);
  for (const id of ["plans", "alerts"]) clear(at(id));
  at("tenant").hidden = true;
  at("board").hidden = true;
  at("signin").hidden = false;
  at("signin-problem").textContent = problem;
  at("token").focus();
}

at("signin-form").addEventListener("submit", async event => {
  event.preventDefault();
  const token = at("token").value.trim();
  at("token").value = "";
  try {
    await ask("/dashboard/sign-in", { method: "POST", body: JSON.stringify({ token }) });
    await begin();
  } catch (error) {
    at("signin-problem").textContent = error.message;
  }
});

at("signout").addEventListener("click", async () => {
  await ask("/dashboard/session", { method: "DELETE" }).catch(() => null);
  leave("");
});

// What is asked every few seconds

async function poll() {
  // A slow answer is waited for.
  if (!state.session || state.polling) return;
  state.polling = true;
  await askAll().finally(() => { state.polling = false; });
}

async function askAll() {
  const admin = state.session.scope === "admin";
  const parts = [part("tenants-section", showTenants), part("limits-section", showLimits)];
  if (admin) parts.push(part("score-section", showScore), part("alerts-section", showAlerts), part("graphs-section", showGraphs));
  if (state.tenant) parts.push(part("tenant", refresh));
  const done = await Promise.all(parts);
  if (!state.session) return;
  const failed = done.filter(well => !well).length;
  say(failed === done.length ? "the companion does not answer" : failed ? "some of it could not be asked" : "up to date", failed > 0);
}

// One tenant

async function choose(tenant) {
  state.tenant = tenant;
  history.replaceState(null, "", `#${encodeURIComponent(tenant)}`);
  press();
  at("tenant-title").textContent = tenant;
  at("tenant").hidden = false;
  for (const id of ["business", "slow", "slower", "findings", "events"]) clear(at(id).tBodies[0]);
  for (const id of ["plans", "figures"]) clear(at(id));
  for (const id of ["business-section", "findings", "slow", "slower", "events"]) at(id).hidden = true;
  for (const id of ["slow-none", "plans-none"]) at(id).hidden = true;
  at("events-none").hidden = false;
  at("optimize-state").textContent = "";
  at("tenant-title").focus({ preventScroll: true });
  at("tenant").scrollIntoView({ block: "start" });
  follow(tenant);
  await part("tenant", refresh);
}

function close() {
  const tenant = state.tenant;
  if (state.stream) state.stream.close();
  Object.assign(state, { tenant: null, stream: null });
  history.replaceState(null, "", location.pathname);
  at("tenant").hidden = true;
  press();
  const cell = [...at("tenants").children].find(one => one.dataset.tenant === tenant);
  if (cell) cell.focus();
}

at("close").addEventListener("click", close);

async function refresh() {
  const tenant = state.tenant, name = encodeURIComponent(tenant);
  const [metrics, database, slow] = await Promise.all([
    ask(`/api/security/metrics/${name}`), ask(`/api/database/performance/${name}`), ask(`/api/database/slow-queries/${name}?limit=20`),
  ]);
  if (tenant !== state.tenant) return;
  const pool = database.performance_metrics;
  const figures = {
    "events, 24 h": metrics.metrics.total_events_24h, "limits exceeded": metrics.metrics.rate_limit_violations,
    "unauthorized": metrics.metrics.unauthorized_access, "database": database.database || "none",
    "connections in use": `${pool.checked_out} of ${pool.pool_max}`, "waiting": pool.waiting,
    "statements": pool.query_count, "slow, 24 h": pool.slow_queries, "looked through": pool.last_optimization ? moment(pool.last_optimization) : "never",
  };
  if (database.problem) figures.problem = database.problem;
  show(at("figures"), Object.entries(figures), all => all.map(([term, value]) => {
    const pair = element("div", null, term === "problem" ? { class: "whole" } : {});
    pair.append(element("dt", term), element("dd", String(value)));
    return pair;
  }));
  at("optimize").disabled = !database.database || state.looking;
  at("optimize").title = database.database ? "" : "the tenant has no database of its own here";
  fill("slow", slow.slow_queries, statements);
  fill("slower", slow.regressions, regressions);
  if (state.session.scope === "admin") await showBusiness(tenant);
  await showPlans();
}

function follow(tenant) {
  if (state.stream) state.stream.close();
  state.stream = new EventSource(`/api/security/events/${encodeURIComponent(tenant)}/stream`);
  state.stream.addEventListener("security", message => {
    if (tenant !== state.tenant) return;
    const event = JSON.parse(message.data), rows = at("events").tBodies[0];
    const row = line(when(event.timestamp), element("span", event.severity, { class: `badge ${event.severity}` }), event.event_type,
      event.ip_address || "", [[event.details.method, event.details.path, event.details.reason].filter(Boolean).join(" ")]);
    rows.prepend(row);
    entitle(row);
    at("events").hidden = false;
    at("events-none").hidden = true;
    while (rows.children.length > EVENTS) rows.lastChild.remove();
  });
}

begin();
