-- Plans of indexes for tenants' databases, and what became of them.
CREATE TABLE index_plans (
    tenant_id VARCHAR(50) COLLATE "C" NOT NULL,
    -- The digest of the schema and of all statements: what an approval is for.
    plan_id VARCHAR(16) COLLATE "C" NOT NULL,
    state VARCHAR(20) NOT NULL,
    -- {"schema", "judged", "steps": [...], "timeline": [...]}.
    document JSONB NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, plan_id)
);
