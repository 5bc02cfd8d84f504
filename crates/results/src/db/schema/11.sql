-- Version 11: experiments whose kernels have the same code.

-- The key of an experiment with the code of the kernel instead of its content.
CREATE TABLE code (
    experiment INTEGER PRIMARY KEY,
    key INTEGER NOT NULL
) STRICT;
CREATE INDEX code_by_key ON code (key);
-- Tests that wait for an idle slot, because they ran at another commit whose kernel has the same code.
CREATE TABLE same_code (
    commit_ INTEGER NOT NULL REFERENCES commit_ (id),
    test INTEGER NOT NULL REFERENCES test (id),
    source INTEGER NOT NULL REFERENCES commit_ (id),
    PRIMARY KEY (commit_, test)
) STRICT, WITHOUT ROWID;
