-- The views of the current version. They are made again at each migration.

-- One row per test and commit: the attempt that gives the verdict.
CREATE VIEW verdict AS
    SELECT c.sha, c.subject, t.key AS test, t.file, t.subtest, t.arch, s.name AS status, a.started, a.duration_ms,
        a.reason, x.title AS crash, h.name AS host, a.slot, k.name AS kernel, i.name AS image, a.n AS attempt,
        v.name AS suite, printf('%016x', a.experiment) AS experiment, a.load, a.alone,
        a.commit_ AS commit_id, a.test AS test_id
    FROM attempt a
        JOIN commit_ c ON c.id = a.commit_
        JOIN test t ON t.id = a.test
        JOIN status s ON s.id = a.status
        LEFT JOIN crash x ON x.id = a.crash
        LEFT JOIN host h ON h.id = a.host
        LEFT JOIN kernel k ON k.id = a.kernel
        LEFT JOIN image i ON i.id = a.image
        LEFT JOIN suite v ON v.id = a.suite
    WHERE a.decisive = 1;
