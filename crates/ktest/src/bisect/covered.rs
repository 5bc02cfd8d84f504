//! What the suspects change: code that the test ran, according to gcov, or nothing that is part of the build. The former are searched
//! first, the latter last; the result does not depend on it.

use std::collections::HashSet;
use std::path::Path;

use belief::bisect::Change;
use coverage::Coverage;
use gitio::{Repo, TreeChange};
use kernel::closure::BuildFiles;

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
    found.executed_files().map(str::to_owned).collect()
}

/// What is known of the files of the source.
#[derive(Debug, Default)]
pub(crate) struct KnownFiles {
    /// Those that the test ran.
    pub executed: HashSet<String>,
    /// Those that are part of the build.
    pub build: Option<BuildFiles>,
}

impl KnownFiles {
    /// What changes of these files mean.
    fn change(&self, changes: &[TreeChange]) -> Change {
        Change::of(
            changes.iter().any(|change| self.executed.contains(&change.path)),
            self.build.as_ref().is_some_and(|build| !build.has_any(changes)),
        )
    }
}

/// Marks the suspects by what they change. Without that, the search only takes longer.
pub(crate) async fn mark(search: &mut Search, repo: &Repo, files: &KnownFiles) {
    if (files.executed.is_empty() && files.build.is_none()) || search.commits().len() > SUSPECTS_MAX {
        return;
    }
    // The first one is the base.
    for commit in search.commits().to_vec().iter().skip(1) {
        match repo.commit_changes(commit).await {
            Ok(changes) => search.set_change(&commit.id, files.change(&changes)),
            Err(error) => return tracing::warn!("the changes of {}: {error}", commit.id.short()),
        }
    }
}

#[cfg(test)]
mod tests {
    use belief::Outcome;
    use gitio::Repo;

    use super::*;
    use crate::bisect::{Range, RecordFile, Reproduced};

    #[tokio::test]
    async fn suspects_are_marked_by_what_they_change() {
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
        let changes = |search: &Search| {
            search.bisection().question().suspects.iter().map(|suspect| suspect.change).collect::<Vec<_>>()
        };
        // fs/a.c is the only file that the build reads; `c` at the top may be read by anything.
        let kernel = crate::run::kernel_in(out.path());
        assert_eq!(BuildFiles::of(&kernel), None);
        std::fs::write(out.path().join("closure"), "fs/a.c\n").unwrap();
        let build = BuildFiles::of(&kernel);
        assert!(build.is_some());
        mark(&mut search, &repo, &KnownFiles { executed: HashSet::new(), build }).await;
        assert_eq!(changes(&search), [Change::Unknown, Change::OutsideBuild, Change::Unknown]);
        mark(&mut search, &repo, &KnownFiles { executed: files, build: None }).await;
        assert_eq!(changes(&search), [Change::Covered, Change::OutsideBuild, Change::Covered]);
    }
}
