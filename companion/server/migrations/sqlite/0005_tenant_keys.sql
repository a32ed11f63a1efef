-- Tenants' keys, wrapped under the root key: without it they open nothing. A row stays when its keys are shredded, so that a
-- version is never used twice.
CREATE TABLE tenant_keys (
    tenant_id VARCHAR(50) PRIMARY KEY NOT NULL,
    -- Grows with each change.
    revision BIGINT NOT NULL,
    current_version BIGINT NOT NULL,
    min_decrypt_version BIGINT NOT NULL,
    -- The key of the blind indexes, base64; empty when shredded.
    index_key TEXT NOT NULL,
    -- [{"version", "created_at", "wrapped": base64}]; empty when shredded.
    versions JSONB NOT NULL,
    rotated_at TIMESTAMP,
    shredded_at TIMESTAMP
) WITHOUT ROWID;
-- For rotation on a schedule.
CREATE INDEX tenant_keys_by_age ON tenant_keys (rotated_at);
