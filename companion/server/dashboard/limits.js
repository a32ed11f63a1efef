"use strict";
// Rate limits near their end.

const NEAR = 0.5;

async function showLimits() {
  const admin = state.session.scope === "admin";
  const path = admin ? "/api/security/rate-limit/usage?limit=20"
    : `/api/security/rate-limit/usage/${encodeURIComponent(state.session.tenant_id)}?limit=20`;
  const { limits } = await ask(path);
  const near = limits.filter(limit => limit.used >= NEAR);
  fill("limits", near, all => all.map(limit => {
    const row = line(limit.tenant_id, limit.rule.replaceAll("_", " "), meter(limit.used, `${limit.rule} of ${limit.tenant_id}`),
      percent(limit.used), `${limit.remaining} of ${limit.burst}`, `${limit.age_seconds} s ago`);
    if (limit.used >= 0.9) row.className = "near";
    return row;
  }));
}
