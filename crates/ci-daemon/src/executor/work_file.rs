//! Opens and lists files of a run in the work directory of its slot. A worker host can create any kind of file there, so only
//! regular files are opened, and links are never followed.

use std::path::Path;
use std::time::Duration;

use fsx::untrusted::{Dir, UntrustedError};
use results::PlainFile;

/// The time limit for opening a file.
const LIMIT: Duration = Duration::from_secs(60);

/// Why a file of a run cannot be published.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkFileError {
    /// It cannot be opened, or is not a regular file.
    #[error(transparent)]
    File(#[from] UntrustedError),
    /// The file system does not respond.
    #[error("it does not open within {} s", LIMIT.as_secs())]
    Time,
    /// The daemon is stopping.
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

/// Opens a file of the directory; `None` if it does not exist.
pub(super) async fn open(work: &Path, relative: &Path) -> Result<Option<PlainFile>, WorkFileError> {
    let (dir, name) = (work.to_owned(), relative.to_owned());
    let open = tokio::task::spawn_blocking(move || Dir::open(&dir)?.open_file(name));
    match tokio::time::timeout(LIMIT, open).await.map_err(|_| WorkFileError::Time)?? {
        Ok(file) => Ok(Some(PlainFile::new(file, work.join(relative)))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names in a directory, sorted; empty if it does not exist. More than `max` are an error.
pub(super) async fn list(work: &Path, relative: &Path, max: u64) -> Result<Vec<String>, WorkFileError> {
    let (dir, name) = (work.to_owned(), relative.to_owned());
    let list = tokio::task::spawn_blocking(move || Dir::open(&dir)?.list(name, max));
    let entries = match tokio::time::timeout(LIMIT, list).await.map_err(|_| WorkFileError::Time)?? {
        Err(error) if error.is_not_found() => Vec::new(),
        entries => entries?,
    };
    Ok(entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Instant;

    use model::{CommitId, ResultKey, Verdict};
    use results::{LogKind, VerdictRecord, Writer};
    use testkit::Trap;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_regular_files_are_published() {
        let dir = tempfile::tempdir().unwrap();
        let (work, outside) = (dir.path().join("work"), dir.path().join("outside"));
        let victim = outside.join("secret");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(&victim, "PRIVATE KEY").unwrap();
        let writer = Writer::open(dir.path().join("results")).unwrap();
        let commit: CommitId = "1".repeat(40).parse().unwrap();
        let key: ResultKey = "a.x".parse().unwrap();
        let record = VerdictRecord::new(commit.clone(), key.clone(), Verdict::Passed, Duration::ZERO);
        writer.record(record).await.unwrap();
        let names =
            ["out/a.x/log", "out/a.x/crash", "out/a", "kernel.config", "out/build.log", "out/coverage.info"];
        for name in names {
            // An ordinary user cannot create a device.
            for trap in Trap::ALL.into_iter().filter(|trap| *trap != Trap::Device) {
                let path = work.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                trap.set(&path, &outside);
                let began = Instant::now();
                match open(&work, Path::new(name)).await {
                    Ok(Some(file)) => {
                        // Root needs no permissions.
                        assert!([Trap::SparseFile, Trap::LockedFile].contains(&trap), "{name} {trap:?}");
                        writer.publish_log(&commit, &key, 1, LogKind::Subtest, file).await.unwrap();
                    }
                    refused => assert!(refused.is_err(), "{name} {trap:?}: {refused:?}"),
                }
                assert!(began.elapsed() < Duration::from_secs(5), "{name} {trap:?}: {:?}", began.elapsed());
                fsx::own::remove_tree(&work).unwrap();
            }
            // The parent directory is a link.
            let parent = work.join(name).parent().unwrap().to_owned();
            if parent != work {
                std::fs::copy(&victim, outside.join(Path::new(name).file_name().unwrap())).unwrap();
                std::fs::create_dir_all(parent.parent().unwrap()).unwrap();
                symlink(&outside, &parent).unwrap();
                assert!(open(&work, Path::new(name)).await.is_err(), "{name}");
                fsx::own::remove_tree(&work).unwrap();
            }
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "PRIVATE KEY");
        let log = writer.reader().log(&commit, &key, LogKind::Subtest).unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&log.read(1 << 20).unwrap().0).contains("PRIVATE"));
    }
}
