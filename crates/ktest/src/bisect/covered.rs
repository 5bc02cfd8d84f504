//! Which suspects change code that the test ran, according to gcov. They are searched first; the result does not depend on it.

use std::collections::HashSet;
use std::path::Path;

use coverage::Coverage;
use gitio::{CommitInfo, GitError, Repo};

use super::search::Search;

/// The maximum number of bytes of a tracefile that are read.
const READ_MAX: u64 = 256 << 20;
/// The maximum number of suspects that are looked at.
const SUSPECTS_MAX: usize = 500;

/// The source files that the test ran, from the tracefiles of runs in these output directories.
pub(crate) fn executed_files<'a>(outs: impl IntoIterator<Item = &'a Path>) -> HashSet<String> {
    let mut found = Coverage::default();
    for out in outs {
        // Without gcov, there is none.
        let text = fsx::own::read_to_string(&out.join("out/coverage.info"), READ_MAX).unwrap_or_default();
        found.merge(text.parse().unwrap_or_default());
    }
    let files = found.files.into_iter().filter(|(_, file)| file.totals().lines_hit > 0);
    files.map(|(name, _)| name).collect()
}

/// Marks the suspects that change one of these files. Without that, the search only takes longer.
pub(crate) async fn mark(search: &mut Search, repo: &Repo, files: &HashSet<String>) {
    if files.is_empty() || search.commits().len() > SUSPECTS_MAX {
        return;
    }
    for pair in search.commits().to_vec().windows(2) {
        match touches(repo, &pair[0], &pair[1], files).await {
            Ok(true) => search.set_covered(&pair[1].id),
            Ok(false) => {}
            Err(error) => return tracing::warn!("the changes of {}: {error}", pair[1].id.short()),
        }
    }
}

async fn touches(
    repo: &Repo,
    parent: &CommitInfo,
    commit: &CommitInfo,
    files: &HashSet<String>,
) -> Result<bool, GitError> {
    // The commits of a merge follow its base, which is the parent of none of them.
    let first = commit.parents.first();
    let from = if first == Some(&parent.id) {
        parent.tree.clone()
    } else if let Some(first) = first {
        repo.tree_id(first)?
    } else {
        return Ok(false);
    };
    let changes = repo.tree_changes(&from, &commit.tree).await?;
    Ok(changes.iter().any(|change| files.contains(&change.path)))
}

#[cfg(test)]
mod tests {
    use belief::Outcome;
    use belief::bisect::Change;
    use gitio::Repo;

    use super::*;
    use crate::bisect::{Range, RecordFile, Reproduced};

    #[tokio::test]
    async fn suspects_that_change_executed_files_are_marked() {
        let (out, scratch) = (tempfile::tempdir().unwrap(), testkit::ScratchRepo::new());
        let base = scratch.commit("base", &[("fs/a.c", "1"), ("fs/b.c", "1")]);
        scratch.commit("a", &[("fs/a.c", "2")]);
        scratch.commit("b", &[("fs/b.c", "2")]);
        let head = scratch.commit("both", &[("fs/a.c", "3"), ("fs/b.c", "3"), ("c", "1")]);
        let repo = Repo::open(scratch.path()).unwrap();
        std::fs::create_dir(out.path().join("out")).unwrap();
        let info = "TN:\nSF:fs/a.c\nDA:1,5\nend_of_record\nSF:fs/b.c\nDA:1,0\nend_of_record\n";
        std::fs::write(out.path().join("out/coverage.info"), info).unwrap();
        let files = executed_files([out.path(), Path::new("/nonexistent")]);
        assert_eq!(files, HashSet::from(["fs/a.c".to_owned()]));
        let range: Range = format!("{base}..").parse().unwrap();
        let failure = Outcome::of(model::Status::Failed, Some("broke"), None);
        let signature = failure.signature().cloned().unwrap();
        let file = RecordFile::new(out.path(), &base, &head);
        let failure = Reproduced { signature, runs: Vec::new() };
        let test = "fs.a.x".parse().unwrap();
        let mut search = Search::new(&test, failure, range.commits(&repo).unwrap(), file).unwrap();
        mark(&mut search, &repo, &files).await;
        let changes = search.bisection().question().suspects.iter().map(|suspect| suspect.change);
        assert_eq!(changes.collect::<Vec<_>>(), [Change::Covered, Change::Unknown, Change::Covered]);
    }
}
