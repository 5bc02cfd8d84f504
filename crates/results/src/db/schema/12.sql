-- Version 12: commits with the same patch.

-- The id of the patch of a commit, whatever it is applied to; empty for a commit that has none, such as a merge.
CREATE TABLE patch (
    commit_ INTEGER PRIMARY KEY REFERENCES commit_ (id),
    name TEXT NOT NULL
) STRICT;
CREATE INDEX patch_by_name ON patch (name) WHERE name <> '';
