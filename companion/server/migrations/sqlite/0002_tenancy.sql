-- How a tenant's data lies: 'shared' tables, a 'schema' of its own, a 'database' of its own.
ALTER TABLE tenants ADD COLUMN tenancy_model VARCHAR(20) NOT NULL DEFAULT 'shared';
-- The address of its database, sealed; what it is and who may open it is the keyring's affair.
ALTER TABLE tenants ADD COLUMN database_url_sealed TEXT;
ALTER TABLE tenants ADD COLUMN updated_at TIMESTAMP;

-- What a tenant has of its own; the rest are the defaults. A row stays when its tenant goes, emptied, so that whoever follows
-- the versions sees the change.
CREATE TABLE security_policies (
    tenant_id VARCHAR(50) PRIMARY KEY NOT NULL,
    policy JSONB NOT NULL,
    -- Grows with each change of any tenant.
    version BIGINT NOT NULL UNIQUE,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
) WITHOUT ROWID;

-- A token is found by its hash.
CREATE UNIQUE INDEX user_sessions_by_token ON user_sessions (token_hash);
-- For expiry.
CREATE INDEX user_sessions_by_end ON user_sessions (expires_at);
CREATE INDEX database_performance_logs_by_age ON database_performance_logs (created_at);
