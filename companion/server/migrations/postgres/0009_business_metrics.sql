-- What an administrator has declared to be measured of a tenant's own database: one statement, one number.
CREATE TABLE business_metrics (
    tenant_id VARCHAR(50) COLLATE "C" NOT NULL,
    name VARCHAR(50) COLLATE "C" NOT NULL,
    unit VARCHAR(20) NOT NULL,
    statement TEXT NOT NULL,
    -- The role of PostgreSQL that it runs as.
    role VARCHAR(63) NOT NULL,
    interval_seconds BIGINT NOT NULL,
    time_limit_ms BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, name)
);
