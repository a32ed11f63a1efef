-- All instants are UTC.

CREATE TABLE tenants (
    tenant_id VARCHAR(50) PRIMARY KEY COLLATE "C",
    -- 'operator': added by hand; 'traffic': registered itself in a demonstration.
    origin VARCHAR(20) NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc')
);

-- Partitioned by day. What fits no day (late by more than what is kept, or from before the first start) lies in the default
-- partition.
CREATE TABLE security_events (
    id BIGSERIAL,
    tenant_id VARCHAR(50) NOT NULL COLLATE "C",
    event_type VARCHAR(100) NOT NULL COLLATE "C",
    severity VARCHAR(20) NOT NULL DEFAULT 'INFO' COLLATE "C",
    user_id VARCHAR(50),
    ip_address VARCHAR(45),
    user_agent VARCHAR(500),
    details JSONB,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    processed BOOLEAN NOT NULL DEFAULT FALSE,
    -- Which life of which VM wrote the record, and its number there; NULL for what did not come from a module.
    epoch CHAR(16) COLLATE "C",
    sequence BIGINT,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE security_events_default PARTITION OF security_events DEFAULT;
-- A record may be delivered twice and is stored once.
CREATE UNIQUE INDEX security_events_once ON security_events (epoch, sequence, created_at);
-- Newest first of one tenant, of one type, of one severity. What most rows are (REQUEST, INFO) is left out of the latter two.
CREATE INDEX security_events_by_time ON security_events (tenant_id, created_at, id);
CREATE INDEX security_events_by_type ON security_events (tenant_id, event_type, created_at, id) WHERE event_type <> 'REQUEST';
CREATE INDEX security_events_by_severity ON security_events (tenant_id, severity, created_at, id) WHERE severity <> 'INFO';

-- Counts per minute, kept in the transaction that stores the events.
CREATE TABLE security_event_counts (
    tenant_id VARCHAR(50) NOT NULL COLLATE "C",
    -- Whole minutes since the Unix epoch.
    minute BIGINT NOT NULL,
    event_type VARCHAR(100) NOT NULL COLLATE "C",
    severity VARCHAR(20) NOT NULL COLLATE "C",
    events BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, minute, event_type, severity)
);
CREATE INDEX security_event_counts_by_minute ON security_event_counts (minute);

CREATE TABLE rate_limiting_logs (
    id BIGSERIAL,
    tenant_id VARCHAR(50) NOT NULL COLLATE "C",
    user_id VARCHAR(50),
    action VARCHAR(50) NOT NULL,
    ip_address VARCHAR(45),
    request_count INTEGER NOT NULL DEFAULT 1,
    limit_exceeded BOOLEAN NOT NULL DEFAULT FALSE,
    window_start TIMESTAMP NOT NULL,
    window_end TIMESTAMP NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE rate_limiting_logs_default PARTITION OF rate_limiting_logs DEFAULT;
CREATE INDEX rate_limiting_logs_by_time ON rate_limiting_logs (tenant_id, created_at);

-- Values sealed under a tenant's key.
CREATE TABLE encrypted_data (
    id BIGSERIAL PRIMARY KEY,
    tenant_id VARCHAR(50) NOT NULL COLLATE "C",
    data_type VARCHAR(50) NOT NULL,
    encrypted_value TEXT NOT NULL,
    encryption_key_id VARCHAR(100) NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    updated_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc')
);
CREATE INDEX encrypted_data_by_type ON encrypted_data (tenant_id, data_type);

CREATE TABLE user_sessions (
    id BIGSERIAL PRIMARY KEY,
    tenant_id VARCHAR(50) NOT NULL COLLATE "C",
    user_id VARCHAR(50) NOT NULL COLLATE "C",
    session_id VARCHAR(100) NOT NULL UNIQUE,
    token_hash VARCHAR(255) NOT NULL,
    ip_address VARCHAR(45),
    user_agent VARCHAR(500),
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    last_activity TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    expires_at TIMESTAMP NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc')
);
CREATE INDEX user_sessions_by_user ON user_sessions (tenant_id, user_id, is_active);

CREATE TABLE database_performance_logs (
    id BIGSERIAL,
    tenant_id VARCHAR(50) NOT NULL COLLATE "C",
    query_hash VARCHAR(64) NOT NULL,
    query_text TEXT NOT NULL,
    -- Seconds.
    execution_time DOUBLE PRECISION NOT NULL,
    rows_affected INTEGER,
    connection_id VARCHAR(50),
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE database_performance_logs_default PARTITION OF database_performance_logs DEFAULT;
CREATE INDEX database_performance_logs_by_time ON database_performance_logs (tenant_id, created_at);

-- One row, rewritten by the readiness check to prove that the store takes writes.
CREATE TABLE store_probe (
    id INTEGER PRIMARY KEY,
    written_at TIMESTAMP NOT NULL
);
