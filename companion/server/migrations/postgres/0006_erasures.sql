-- Tenants whose keys were shredded and whose people still stand in the tables of events: written with the shredding, removed
-- when they are gone from there.
CREATE TABLE erasures (
    tenant_id VARCHAR(50) PRIMARY KEY COLLATE "C",
    asked_at TIMESTAMP NOT NULL
);
