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
  if (admin) draw();
  await poll();
  if (!admin) choose(state.session.tenant_id);
  state.timer = setInterval(poll, POLL_MS);
}

sessionEnded = () => leave("The session has ended; sign in again.");

function leave(problem) {
  clearInterval(state.timer);
  if (state.stream) state.stream.close();
  for (const chart of state.charts) chart.destroy();
  Object.assign(state, { session: null, tenant: null, stream: null, last: null, charts: [],
    traffic: [[], [], []], times: [[], [], []] });
  for (const id of ["tenants", "parts", "figures"]) at(id).replaceChildren();
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

// Charts

function draw() {
  if (typeof uPlot === "undefined") {
    for (const id of ["traffic", "times"]) at(id).textContent = "Built without its charts; `make run` builds with them.";
    return;
  }
  // Functions: the colours follow the scheme.
  const style = getComputedStyle(document.documentElement);
  const color = name => () => style.getPropertyValue(name).trim();
  const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
  const recent = chart => {
    const last = chart.data[0].at(-1) ?? Date.now() / 1000;
    return [last - POINTS * POLL_MS / 1000, last];
  };
  const chart = (id, names, colors, data) => {
    const place = at(id);
    const made = new uPlot({
      width: Math.max(place.clientWidth, 240), height: 190, cursor: { drag: { x: true, y: false } },
      axes: [axis, { ...axis, size: 52 }], scales: { x: { range: recent }, y: { range: (u, min, max) => [0, Math.max(max || 0, 1)] } },
      series: [{}, ...names.map((label, index) => ({ label, stroke: colors[index], width: 2, spanGaps: true }))],
    }, data, place);
    new ResizeObserver(() => made.setSize({ width: Math.max(place.clientWidth, 240), height: 190 })).observe(place);
    return made;
  };
  state.charts = [
    chart("traffic", ["stored", "refused"], [color("--accent"), color("--bad")], state.traffic),
    chart("times", ["average", "95 of 100"], [color("--accent"), color("--bad")], state.times),
  ];
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of state.charts) chart.redraw();
});

function push(series, values) {
  series.forEach((points, index) => {
    points.push(values[index]);
    if (points.length > POINTS) points.shift();
  });
}

// What is asked every few seconds

async function poll() {
  if (!state.session) return;
  try {
    if (state.session.scope === "admin") await pollAll();
    else tenants([{ tenant_id: state.session.tenant_id, events: 0, warning_events: 0, error_events: 0 }]);
    await showLimits();
    if (state.tenant) await refresh();
    say("up to date");
  } catch (error) {
    say(error.message, true);
  }
}

async function pollAll() {
  const [summary, durations, figures, security, names] = await Promise.all([
    ask("/monitoring/performance/summary"), ask("/performance"), ask("/monitoring/metrics"), ask("/security"),
    ask("/api/tenants"),
  ]);
  await showAlerts();
  score(summary);
  const now = Date.now() / 1000;
  const refused = Object.values(figures.events).reduce((sum, counts) => sum + (counts.WARNING || 0), 0);
  const stored = Object.values(figures.events).reduce(
    (sum, counts) => sum + Object.values(counts).reduce((a, b) => a + b, 0), 0);
  if (state.last) {
    const seconds = Math.max(now - state.last.now, 0.001);
    push(state.traffic, [now, Math.max(stored - state.last.stored, 0) / seconds, Math.max(refused - state.last.refused, 0) / seconds]);
  }
  state.last = { now, stored, refused };
  push(state.times, [now, durations.responses.average_ms, durations.responses.p95_ms]);
  if (state.charts.length) {
    state.charts[0].setData(state.traffic);
    state.charts[1].setData(state.times);
  }
  const seen = new Set(security.tenants.map(row => row.tenant_id));
  const quiet = names.tenants.filter(name => !seen.has(name));
  tenants([...security.tenants, ...quiet.map(tenant_id => ({ tenant_id, events: 0, warning_events: 0, error_events: 0 }))]);
}

function score(summary) {
  at("score").textContent = summary.score;
  at("parts").replaceChildren(...summary.parts.map(part => {
    const line = element("li");
    const name = element("strong", part.name);
    const bar = element("meter", `${part.score} of 100`, { min: 0, max: 100, low: 50, high: 90, optimum: 100, value: part.score, "aria-label": part.name });
    line.append(name, bar, ` ${part.score} · weight ${part.weight}`);
    for (const reason of part.reasons) line.append(element("p", reason));
    if (part.fix) line.append(element("p", part.fix, { class: "fix" }));
    return line;
  }));
}

function tenants(rows) {
  const group = at("tenants");
  const focused = document.activeElement && document.activeElement.dataset.tenant;
  group.replaceChildren(...rows.map(row => {
    const bad = row.warning_events + row.error_events;
    const heat = row.events ? Math.min(bad / row.events, 1) : 0;
    const cell = element("button", row.tenant_id, { type: "button", "aria-pressed": String(row.tenant_id === state.tenant),
      title: `${row.tenant_id}: ${row.events} events, ${row.warning_events} refused, ${row.error_events} failed` });
    cell.dataset.tenant = row.tenant_id;
    cell.style.setProperty("--heat", heat.toFixed(3));
    cell.addEventListener("click", () => choose(row.tenant_id));
    return cell;
  }));
  if (focused) {
    const again = [...group.children].find(cell => cell.dataset.tenant === focused);
    if (again) again.focus({ preventScroll: true });
  }
}

// One tenant

async function choose(tenant) {
  state.tenant = tenant;
  for (const cell of at("tenants").children) cell.setAttribute("aria-pressed", String(cell.dataset.tenant === tenant));
  at("tenant-title").textContent = tenant;
  at("tenant").hidden = false;
  for (const id of ["business", "slow", "slower", "findings", "events"]) clear(at(id).tBodies[0]);
  clear(at("plans"));
  at("business-section").hidden = true;
  at("findings").hidden = true;
  at("optimize-state").textContent = "";
  at("tenant-title").focus({ preventScroll: true });
  at("tenant").scrollIntoView({ block: "nearest" });
  follow(tenant);
  await refresh().catch(error => say(error.message, true));
}

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
  at("figures").replaceChildren(...Object.entries(figures).map(([term, value]) => {
    const pair = element("div");
    pair.append(element("dt", term), element("dd", String(value)));
    return pair;
  }));
  show(at("slow").tBodies[0], slow.slow_queries, statements);
  at("slower").hidden = !slow.regressions.length;
  show(at("slower").tBodies[0], slow.regressions, regressions);
  if (state.session.scope === "admin") await showBusiness(tenant);
  await showPlans();
}

function follow(tenant) {
  if (state.stream) state.stream.close();
  state.stream = new EventSource(`/api/security/events/${encodeURIComponent(tenant)}/stream`);
  state.stream.addEventListener("security", message => {
    if (tenant !== state.tenant) return;
    const event = JSON.parse(message.data), rows = at("events").tBodies[0];
    const row = line(moment(event.timestamp), event.severity, event.event_type, event.ip_address || "",
      [[event.details.method, event.details.path, event.details.reason].filter(Boolean).join(" ")]);
    row.className = event.severity;
    rows.prepend(row);
    while (rows.children.length > EVENTS) rows.lastChild.remove();
  });
}

begin();
