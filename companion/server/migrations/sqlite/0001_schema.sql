-- Timestamps are RFC 3339 texts in UTC of one width (24 characters), so that their order is time's order.

CREATE TABLE tenants (
    tenant_id VARCHAR(50) PRIMARY KEY NOT NULL,
    -- 'operator': added by hand; 'traffic': registered itself in a demonstration.
    origin VARCHAR(20) NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) WITHOUT ROWID;

CREATE TABLE security_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id VARCHAR(50) NOT NULL,
    event_type VARCHAR(100) NOT NULL,
    severity VARCHAR(20) NOT NULL DEFAULT 'INFO',
    user_id VARCHAR(50),
    ip_address VARCHAR(45),
    user_agent VARCHAR(500),
    details JSONB,
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    processed BOOLEAN NOT NULL DEFAULT FALSE,
    -- Which life of which VM wrote the record, and its number there; NULL for what did not come from a module.
    epoch CHAR(16),
    sequence INTEGER
);
-- A record may be delivered twice and is stored once; a gap is measured against what is really here.
CREATE UNIQUE INDEX security_events_once ON security_events (epoch, sequence) WHERE epoch IS NOT NULL;
-- Newest first of one tenant, of one type, of one severity: each page of the API is read off one index, never sorted.
CREATE INDEX security_events_by_time ON security_events (tenant_id, created_at);
CREATE INDEX security_events_by_type ON security_events (tenant_id, event_type, created_at);
CREATE INDEX security_events_by_severity ON security_events (tenant_id, severity, created_at)
    WHERE severity <> 'INFO';

-- Counts per minute, kept in the transaction that stores the events: a day's figures are read from some thousand rows, however many events there were.
CREATE TABLE security_event_counts (
    tenant_id VARCHAR(50) NOT NULL,
    -- Whole minutes since the Unix epoch.
    minute INTEGER NOT NULL,
    event_type VARCHAR(100) NOT NULL,
    severity VARCHAR(20) NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, minute, event_type, severity)
) WITHOUT ROWID;
-- For expiry.
CREATE INDEX security_event_counts_by_minute ON security_event_counts (minute);

CREATE TABLE rate_limiting_logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id VARCHAR(50) NOT NULL,
    user_id VARCHAR(50),
    action VARCHAR(50) NOT NULL,
    ip_address VARCHAR(45),
    request_count INTEGER NOT NULL DEFAULT 1,
    limit_exceeded BOOLEAN NOT NULL DEFAULT FALSE,
    window_start TIMESTAMP NOT NULL,
    window_end TIMESTAMP NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX rate_limiting_logs_by_time ON rate_limiting_logs (tenant_id, created_at);

-- Values sealed under a tenant's key.
CREATE TABLE encrypted_data (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id VARCHAR(50) NOT NULL,
    data_type VARCHAR(50) NOT NULL,
    encrypted_value TEXT NOT NULL,
    encryption_key_id VARCHAR(100) NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    updated_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX encrypted_data_by_type ON encrypted_data (tenant_id, data_type);

CREATE TABLE user_sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id VARCHAR(50) NOT NULL,
    user_id VARCHAR(50) NOT NULL,
    session_id VARCHAR(100) NOT NULL UNIQUE,
    token_hash VARCHAR(255) NOT NULL,
    ip_address VARCHAR(45),
    user_agent VARCHAR(500),
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    last_activity TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    expires_at TIMESTAMP NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX user_sessions_by_user ON user_sessions (tenant_id, user_id, is_active);

CREATE TABLE database_performance_logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id VARCHAR(50) NOT NULL,
    query_hash VARCHAR(64) NOT NULL,
    query_text TEXT NOT NULL,
    -- Seconds.
    execution_time FLOAT NOT NULL,
    rows_affected INTEGER,
    connection_id VARCHAR(50),
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX database_performance_logs_by_time ON database_performance_logs (tenant_id, created_at);

-- One row, rewritten by the readiness check to prove that the store takes writes; another is tried and taken back, to
-- prove that there is room.
CREATE TABLE store_probe (
    id INTEGER PRIMARY KEY,
    written_at TIMESTAMP NOT NULL,
    ballast BLOB
);
