-- Version 10: the key of an experiment in the rows of its attempts, and whether an attempt had its host to itself.

-- The first 16 hexadecimal digits of the names of version 9, as a number.
CREATE TEMP TABLE experiment_key AS
    WITH RECURSIVE digit (id, name, at, key) AS (SELECT id, name, 1, 0 FROM experiment
        UNION ALL SELECT id, name, at + 1, (key << 4) | (instr('0123456789abcdef', substr(name, at, 1)) - 1)
            FROM digit WHERE at <= 16)
    SELECT id, key FROM digit WHERE at = 17;
CREATE UNIQUE INDEX temp.experiment_key_by_id ON experiment_key (id);
DROP INDEX attempt_by_experiment;
UPDATE attempt SET experiment = (SELECT key FROM experiment_key WHERE id = experiment)
    WHERE experiment IS NOT NULL AND EXISTS (SELECT 1 FROM experiment_key);
UPDATE history SET experiment = (SELECT key FROM experiment_key WHERE id = experiment)
    WHERE experiment IS NOT NULL AND EXISTS (SELECT 1 FROM experiment_key);
DROP TABLE experiment;
-- The commits at which an experiment ran.
CREATE TABLE experiment (
    key INTEGER NOT NULL,
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    PRIMARY KEY (key, commit_)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO experiment SELECT experiment, commit_ FROM attempt
    WHERE experiment IS NOT NULL AND ran_at IS NULL AND EXISTS (SELECT 1 FROM experiment_key);
DROP TABLE temp.experiment_key;

-- 1: no other batch of the farm ran on the host. 0: another one did.
ALTER TABLE attempt ADD COLUMN alone INTEGER;
ALTER TABLE history ADD COLUMN alone INTEGER;
