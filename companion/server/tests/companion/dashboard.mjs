// Drives a Chromium through its DevTools protocol: signs in, looks, uses the keyboard, signs out. Prints what it saw as JSON.
// node dashboard.mjs WEBSOCKET PAGE TOKEN FOLDER_FOR_SCREENSHOTS
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const [socketUrl, page, token, folder] = process.argv.slice(2);
const socket = new WebSocket(socketUrl);
const waiting = new Map(), complaints = [];
let next = 1, session;
await new Promise((opened, failed) => { socket.onopen = opened; socket.onerror = failed; });
socket.onmessage = message => {
  const told = JSON.parse(message.data);
  if (told.id) {
    const { done, failed } = waiting.get(told.id);
    waiting.delete(told.id);
    told.error ? failed(new Error(told.error.message)) : done(told.result);
  } else if (told.method === "Runtime.exceptionThrown") complaints.push(told.params.exceptionDetails.exception?.description ?? told.params.exceptionDetails.text);
  else if (told.method === "Log.entryAdded" && /Content Security Policy/.test(told.params.entry.text)) complaints.push(told.params.entry.text);
};
const send = (method, params = {}) => new Promise((done, failed) => {
  const id = next++;
  waiting.set(id, { done, failed });
  socket.send(JSON.stringify({ id, method, params, sessionId: session }));
});
async function see(expression) {
  const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
  return result.value;
}
async function until(expression) {
  for (let tries = 0; tries < 300; tries++) {
    if (await see(`Boolean(${expression})`).catch(() => false)) return;
    await new Promise(later => setTimeout(later, 100));
  }
  throw new Error(`not within 30 s: ${expression}; the page says: ${await see("document.body.innerText")}`);
}
async function press(key, code, text) {
  const event = { key, code: key, windowsVirtualKeyCode: code, text };
  await send("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", ...event });
  await send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
}
async function picture(name) {
  const { data } = await send("Page.captureScreenshot", { format: "png" });
  writeFileSync(join(folder, `${name}.png`), Buffer.from(data, "base64"));
}

try {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  session = (await send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log"]) await send(`${domain}.enable`);
  await send("Emulation.setDeviceMetricsOverride", { width: 1280, height: 900, deviceScaleFactor: 1, mobile: false });
  const saw = {};
  await send("Page.navigate", { url: page });
  await until("!document.getElementById('signin').hidden && document.activeElement.id === 'token'");
  await picture("signin");

  // By the keyboard alone: a wrong token, then the right one.
  await send("Input.insertText", { text: "pct1.wrong.token" });
  await press("Enter", 13, "\r");
  await until("document.getElementById('signin-problem').textContent");
  saw.refused = await see("document.getElementById('signin-problem').textContent");
  await see("document.getElementById('token').focus()");
  await send("Input.insertText", { text: token });
  await press("Enter", 13, "\r");
  await until("!document.getElementById('board').hidden && document.getElementById('state').textContent === 'up to date'");
  await until("document.querySelectorAll('.u-over').length === 2");
  await until("document.querySelectorAll('#tenants button').length === 2");
  saw.score = await see("document.getElementById('score').textContent");
  saw.parts = await see("[...document.querySelectorAll('#parts strong')].map(part => part.textContent)");
  saw.tenants = await see("[...document.querySelectorAll('#tenants button')].map(cell => [cell.dataset.tenant, Number(cell.style.getPropertyValue('--heat'))])");
  saw.cookie_seen_by_scripts = await see("document.cookie");

  saw.score_word = await see("document.getElementById('score').className");
  saw.legend = await see("document.querySelectorAll('#legend i').length");

  // The keyboard finds a tenant, opens it, closes it, and goes on from there. One that has nothing is said to have nothing.
  await press("/", 191, "/");
  await until("document.activeElement.id === 'find'");
  await send("Input.insertText", { text: "GLOB" });
  await until("document.querySelectorAll('#tenants button').length === 1");
  await press("Enter", 13, "\r");
  await until("document.getElementById('tenant-title').textContent === 'globex' && !document.getElementById('plans-none').hidden");
  saw.nothing = await see("[...document.querySelectorAll('#tenant .hint')].filter(hint => !hint.hidden).map(hint => hint.id)");
  saw.link = await see("location.hash");
  await picture("nothing");
  await press("Escape", 27);
  await until("document.getElementById('tenant').hidden && document.activeElement.dataset.tenant === 'globex'");
  await see("(find => { find.value = ''; find.dispatchEvent(new Event('input')); })(document.getElementById('find'))");
  await until("document.querySelectorAll('#tenants button').length === 2");
  await press("ArrowLeft", 37);
  await until("document.activeElement.dataset.tenant === 'acme' && document.querySelectorAll('#tenants [tabindex=\"0\"]').length === 1");
  await press("Enter", 13, "\r");
  await until("document.getElementById('tenant-title').textContent === 'acme' && document.querySelectorAll('#figures dd').length > 5");
  // Something arrives while it is looked at; it is text, whatever it says.
  const attack = "[...document.querySelectorAll('#events tbody tr')].find(row => row.innerText.includes('onerror'))";
  await until(attack);
  saw.event = await see(`${attack}.innerText`);
  saw.images = await see("document.images.length");
  saw.slow = await see("[...document.querySelectorAll('#slow tbody code')].map(cell => cell.textContent)");
  saw.slow_plan = await see("[...document.querySelectorAll('#slow tbody pre')].map(cell => cell.textContent)");
  saw.slower = await see("[...document.querySelectorAll('#slower tbody tr')].map(row => [row.cells[0].textContent, row.cells[1].textContent, row.querySelector('code').textContent])");
  await until("document.querySelectorAll('#limits tbody tr').length > 0");
  saw.limits = await see("[...document.querySelectorAll('#limits tbody tr')].map(row => [row.cells[0].textContent, row.cells[1].textContent, row.cells[3].textContent])");
  await until("document.querySelectorAll('#business tbody tr').length > 0 && document.querySelector('#business tbody tr').cells[3].textContent");
  saw.business = await see("[...document.querySelector('#business tbody tr').cells].map(cell => cell.textContent)");
  saw.alerts = await see("document.getElementById('alerts-none').hidden === (document.querySelectorAll('#alerts li').length > 0)");
  await see("document.getElementById('optimize').focus()");
  await press("Enter", 13, "\r");
  await until("!document.getElementById('optimize').disabled && document.getElementById('optimize-state').textContent !== 'looking …' && document.getElementById('optimize-state').textContent");
  saw.optimized = await see("document.getElementById('optimize-state').textContent");

  // A plan's way, by the keyboard: looked at, approved, applied, watched, kept.
  const state = "document.querySelector('.plan .badge').textContent";
  await until(`${state} === 'planned'`);
  saw.plan = await see("[...document.querySelector('.plan tbody tr').cells].map(cell => cell.innerText)");
  async function choose(label, until_state) {
    await until(`[...document.querySelectorAll('.plan button')].some(button => button.textContent === '${label}' && !button.disabled)`);
    await see(`[...document.querySelectorAll('.plan button')].find(button => button.textContent === '${label}').focus()`);
    await press("Enter", 13, "\r");
    await until(`${state} === '${until_state}'`);
  }
  await choose("Approve", "approved");
  await choose("Apply", "kept");
  saw.applied = await see("[...document.querySelectorAll('.timeline strong')].map(point => point.textContent)");
  for (const scheme of ["light", "dark"]) {
    await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    await see("document.getElementById('plans').scrollIntoView()");
    await picture(`plan_${scheme}`);
  }
  await send("Emulation.setDeviceMetricsOverride", { width: 390, height: 844, deviceScaleFactor: 2, mobile: true });
  await see("document.getElementById('plans').scrollIntoView()");
  await picture("plan_phone");
  await send("Emulation.setDeviceMetricsOverride", { width: 1280, height: 900, deviceScaleFactor: 1, mobile: false });
  await choose("Roll back", "rolled back");
  saw.taken_back = await see("document.querySelector('.plan').classList[1]");

  await see("scrollTo(0, 0)");
  for (const scheme of ["light", "dark"]) {
    await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    saw[scheme] = await see("getComputedStyle(document.body).backgroundColor");
    await picture(scheme);
  }
  saw.chosen = [];
  for (let turn = 0; turn < 3; turn++) {
    await see("document.getElementById('theme').click()");
    saw.chosen.push(await see("getComputedStyle(document.body).backgroundColor"));
  }

  // A companion that does not answer is told of, part by part, and so is its return.
  const network = { latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
  await send("Network.enable");
  await send("Network.emulateNetworkConditions", { offline: true, ...network });
  await until("document.getElementById('state').textContent === 'the companion does not answer'");
  saw.away = await see("[...document.querySelectorAll('.problem')].map(problem => problem.parentElement.id)");
  await picture("away");
  await send("Network.emulateNetworkConditions", { offline: false, ...network });
  await until("document.getElementById('state').textContent === 'up to date' && !document.querySelector('.problem')");

  await send("Emulation.setDeviceMetricsOverride", { width: 390, height: 844, deviceScaleFactor: 2, mobile: true });
  await new Promise(later => setTimeout(later, 300));
  saw.phone_overflow = await see("document.documentElement.scrollWidth - innerWidth");
  await picture("phone");

  saw.without_csrf = await see("fetch('/api/database/optimize-all', { method: 'POST' }).then(answer => answer.status)");
  await see("document.getElementById('signout').click()");
  await until("!document.getElementById('signin').hidden && document.getElementById('board').hidden");
  saw.after = await see("fetch('/dashboard/session').then(answer => answer.status)");
  saw.left = await see("document.querySelectorAll('#tenants button, #events tbody tr').length");
  saw.complaints = complaints;
  console.log(JSON.stringify(saw));
  process.exit(0);
} catch (error) {
  console.error(error.message, complaints);
  process.exit(1);
}
