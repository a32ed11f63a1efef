-- What a slow statement's plan does, and of one that has become slower what it usually took.
ALTER TABLE database_performance_logs ADD COLUMN query_plan JSONB;
-- Seconds.
ALTER TABLE database_performance_logs ADD COLUMN usual_time FLOAT;
