"use strict";
// All tenants as a heat map: the hottest first, found by name, walked through by arrow keys.

const LEGEND = [0, 0.01, 0.1, 0.5, 1];
// Small shares are seen, too.
const heat = share => Math.sqrt(share).toFixed(3);

function shareOf(row) {
  return row.events ? Math.min((row.warning_events + row.error_events) / row.events, 1) : 0;
}

function legend() {
  const swatch = (text, share) => {
    const place = element("span"), colour = element("i");
    if (share === null) colour.className = "quiet";
    else colour.style.setProperty("--heat", heat(share));
    place.append(colour, text);
    return place;
  };
  for (const old of at("legend").querySelectorAll("span")) old.remove();
  at("legend").append(...LEGEND.map(share => swatch(percent(share), share)), swatch("no events", null));
}

async function showTenants() {
  if (state.session.scope !== "admin") {
    const tenant_id = state.session.tenant_id;
    const { metrics } = await ask(`/api/security/metrics/${encodeURIComponent(tenant_id)}`);
    const { total_events_24h: events, warning_events, error_events } = metrics;
    return tenants([{ tenant_id, events, warning_events, error_events }]);
  }
  const [security, names] = await Promise.all([ask("/security"), ask("/api/tenants")]);
  const seen = new Set(security.tenants.map(row => row.tenant_id));
  const quiet = names.tenants.filter(name => !seen.has(name));
  tenants([...security.tenants, ...quiet.map(tenant_id => ({ tenant_id, events: 0, warning_events: 0, error_events: 0 }))]);
}

function tenants(rows) {
  state.tenants = rows.sort((a, b) => shareOf(b) - shareOf(a) || b.events - a.events || (a.tenant_id < b.tenant_id ? -1 : 1));
  cells();
}

function cells() {
  const sought = at("find").value.trim().toLowerCase();
  const rows = state.tenants.filter(row => row.tenant_id.toLowerCase().includes(sought));
  at("tenants-count").textContent = sought ? `${rows.length} of ${state.tenants.length}` : String(state.tenants.length);
  at("tenants-none").hidden = rows.length > 0;
  at("tenants-none").textContent = sought ? "No tenant has this in its name." : "There is none yet: `portcullis tenant add NAME` adds one.";
  show(at("tenants"), rows, all => all.map(cell));
  press();
}

function cell(row) {
  const made = element("button", null, { type: "button", tabindex: "-1",
    title: `${row.tenant_id}: ${row.events} events, ${row.warning_events} refused, ${row.error_events} failed` });
  made.append(element("span", row.tenant_id), element("span", row.events ? percent(shareOf(row)) : "–"));
  made.dataset.tenant = made.dataset.key = row.tenant_id;
  if (row.events) made.style.setProperty("--heat", heat(shareOf(row)));
  else made.className = "quiet";
  made.addEventListener("click", () => choose(row.tenant_id));
  return made;
}

// Says which is open, and lets the tabulator stop at one of them.
function press() {
  const all = [...at("tenants").children];
  for (const one of all) {
    one.setAttribute("aria-pressed", String(one.dataset.tenant === state.tenant));
    one.tabIndex = -1;
  }
  const stop = all.find(one => one === document.activeElement) || all.find(one => one.dataset.tenant === state.tenant) || all[0];
  if (stop) stop.tabIndex = 0;
}

at("tenants").addEventListener("keydown", event => {
  const all = [...at("tenants").children], here = all.indexOf(document.activeElement);
  if (here < 0) return;
  const columns = Math.max(all.filter(one => one.offsetTop === all[0].offsetTop).length, 1);
  const step = { ArrowRight: here + 1, ArrowLeft: here - 1, ArrowDown: here + columns, ArrowUp: here - columns, Home: 0, End: all.length - 1 }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const next = all[step];
  if (!next) return;
  all[here].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

at("find").addEventListener("input", cells);
at("find").addEventListener("keydown", event => {
  const first = at("tenants").firstElementChild;
  if (!first || !["Enter", "ArrowDown"].includes(event.key)) return;
  event.preventDefault();
  if (event.key === "Enter") choose(first.dataset.tenant);
  else first.focus();
});

document.addEventListener("keydown", event => {
  if (at("board").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName) && state.session.scope === "admin") {
    event.preventDefault();
    at("find").focus();
    at("find").select();
  } else if (event.key === "Escape" && state.tenant && state.session.scope === "admin") close();
});
