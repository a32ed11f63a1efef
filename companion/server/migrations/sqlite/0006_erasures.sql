-- Tenants whose keys were shredded and whose people still stand in the tables of events: written with the shredding, removed
-- when they are gone from there.
CREATE TABLE erasures (
    tenant_id TEXT PRIMARY KEY NOT NULL,
    asked_at TEXT NOT NULL
);
