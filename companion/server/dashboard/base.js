"use strict";
// What all parts of the page stand on. Everything shown was written by strangers at some point: it is set as text, never as markup.

const POLL_MS = 5000, POINTS = 240, EVENTS = 100;
const at = id => document.getElementById(id);
const state = { session: null, tenant: null, stream: null, last: null, timer: null,
  tenants: [], looking: false, polling: false,
  traffic: [[], [], []], times: [[], [], []], charts: [] };

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Leaving is the page's affair; whoever asks is told that the session is gone.
let sessionEnded = () => {};

async function ask(path, options = {}) {
  const headers = { accept: "application/json" };
  if (options.method && state.session) headers["x-csrf-token"] = state.session.csrf_token;
  if (options.body) headers["content-type"] = "application/json";
  const answer = await fetch(path, { ...options, headers, credentials: "same-origin", cache: "no-store" })
    .catch(() => { throw new Error(`the companion does not answer; it is asked again every ${POLL_MS / 1000} s`); });
  const body = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.status === 401 && state.session) sessionEnded();
  if (!answer.ok && !(answer.status === 503 && body && body.status)) {
    throw new Error(body && body.detail ? body.detail : `${path}: ${answer.status}`);
  }
  return body;
}

function say(text, bad = false) {
  at("state").textContent = text;
  at("state").classList.toggle("bad", bad);
}

// A row of a table. A cell that is an array holds code; one that is an element is taken as it is.
function line(...cells) {
  const row = element("tr");
  for (const cell of cells) {
    if (Array.isArray(cell)) row.append(element("td", cell[0], { class: "code" }));
    else if (cell instanceof Node) { const place = element("td"); place.append(cell); row.append(place); }
    else row.append(element("td", cell));
  }
  return row;
}

function size(bytes) {
  return bytes === undefined || bytes === null ? "" : `${(bytes / 1048576).toFixed(1)} MB`;
}

// UTC, to the second.
function moment(text) {
  return text.slice(0, 19).replace("T", " ");
}

function when(text) {
  return text ? element("time", moment(text), { datetime: text }) : "";
}

function percent(share) {
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

function meter(share, label) {
  return element("meter", percent(share), { min: 0, max: 1, low: 0.7, high: 0.9, optimum: 0, value: share, "aria-label": `${label}: ${percent(share)}` });
}

// Replaces what is in a place, unless it is the same; whoever had the focus there has it still.
function show(place, data, make) {
  const told = JSON.stringify(data);
  if (place.dataset.shown === told) return;
  const focused = document.activeElement && place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...make(data));
  place.dataset.shown = told;
  if (place.rows) for (const row of place.rows) entitle(row);
  const again = focused && [...place.querySelectorAll("[data-key]")].find(one => one.dataset.key === focused);
  if (again) again.focus({ preventScroll: true });
}

// Each cell is told its column: narrow screens show rows as lists.
function entitle(row) {
  const titles = row.closest("table").tHead.rows[0].cells;
  [...row.cells].forEach((cell, column) => { cell.dataset.title = titles[column].textContent; });
}

// A table, or a hint that there is nothing to show in it.
function fill(id, rows, make) {
  show(at(id).tBodies[0], rows, make);
  at(id).hidden = !rows.length;
  const none = at(`${id}-none`);
  if (none) none.hidden = rows.length > 0;
}

// What goes wrong in a part of the page is told there, and the others go on.
async function part(id, work) {
  const place = at(id), told = place.querySelector(":scope > .problem");
  try {
    await work();
    if (told) told.remove();
    return true;
  } catch (error) {
    if (!told) place.prepend(element("p", error.message, { class: "problem", role: "alert" }));
    else if (told.textContent !== error.message) told.textContent = error.message;
    return false;
  }
}

function clear(place) {
  place.replaceChildren();
  delete place.dataset.shown;
}

// Light, dark, or as the system has it; kept in this browser.

const THEMES = ["system", "light", "dark"];

function wear(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  at("theme").textContent = `Theme: ${theme}`;
  for (const chart of state.charts) chart.redraw();
}

// A browser may refuse to keep anything; then it is for this visit.
let worn = "system";

function kept() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

at("theme").addEventListener("click", () => {
  worn = THEMES[(THEMES.indexOf(worn) + 1) % THEMES.length];
  try {
    localStorage.setItem("theme", worn);
  } catch { /* it is worn all the same */ }
  wear(worn);
});

if (THEMES.includes(kept())) worn = kept();
wear(worn);
