-- Which store of limits was last in use: when the store does not show this generation any more, its state is lost.
CREATE TABLE limits_generation (
    store VARCHAR(20) PRIMARY KEY NOT NULL,
    generation VARCHAR(64) NOT NULL
) WITHOUT ROWID;
