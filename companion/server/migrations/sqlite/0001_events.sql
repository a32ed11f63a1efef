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
    processed BOOLEAN NOT NULL DEFAULT FALSE
);
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

-- Which records arrived: a batch may be delivered twice and is stored once; a gap is measured against what is really here.
CREATE TABLE ingested_records (
    epoch CHAR(16) NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (epoch, sequence)
) WITHOUT ROWID;

-- One row, rewritten by the readiness check to prove that the store takes writes.
CREATE TABLE store_probe (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    written_at TIMESTAMP NOT NULL
);
