-- When a tenant of a name was removed last. A row stays for good: what was issued for that tenant is not for the next one of its name,
-- and what happened before is not shown to it.
CREATE TABLE removed_tenants (
    tenant_id VARCHAR(50) PRIMARY KEY NOT NULL,
    removed_at TIMESTAMP NOT NULL
) WITHOUT ROWID;
