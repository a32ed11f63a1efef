-- How far each audit trail has been projected into the tables of events: the number of the next record. Moves in the
-- transaction that stores what it speaks of, so that a record is projected once, whatever happens in between.
CREATE TABLE trail_positions (
    log VARCHAR(60) PRIMARY KEY NOT NULL,
    next BIGINT NOT NULL
) WITHOUT ROWID;
