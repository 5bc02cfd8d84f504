-- Version 4: directories of tests are derived.

-- The commits with a directory per test. State 0: written by an earlier version or by the ktest system, never removed; 1: derived from the
-- database, not complete; 2: derived, complete.
CREATE TABLE directory (
    commit_ INTEGER PRIMARY KEY REFERENCES commit_ (id),
    state INTEGER NOT NULL
) STRICT;
INSERT INTO directory SELECT id, 0 FROM commit_ WHERE has_results = 1;
