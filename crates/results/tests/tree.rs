//! The directories of tests: derived for the newest commits of each branch, removed when a commit leaves them, written out
//! on request; directories of earlier versions are kept.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use model::{CommitId, ResultKey, Verdict};
use results::{Exported, LogKind, PlainFile, Reader, Tuning, VerdictRecord, Writer, export_tree};

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn key(name: &str) -> ResultKey {
    name.parse().unwrap()
}

fn open(dir: &Path, compat_tree: usize) -> Writer {
    Writer::open_with(dir, Tuning { compat_tree, ..Tuning::default() }).unwrap()
}

async fn list(writer: &Writer, commits: &str) {
    let listing = commits.chars().map(|digit| (commit(digit), digit.to_string())).collect();
    writer.set_branch(&"u/b".parse().unwrap(), listing).await.unwrap();
}

fn plain(text: &str) -> PlainFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    PlainFile::open(file.path()).unwrap()
}

async fn record(writer: &Writer, of: char, name: &str, verdict: Verdict) -> u32 {
    let record = VerdictRecord::new(commit(of), key(name), verdict, Duration::from_secs(2));
    let attempt = writer.record(record).await.unwrap().attempt;
    let log = plain(&format!("log of {of} {name} {attempt}\n"));
    writer.publish_log(&commit(of), &key(name), attempt, LogKind::Subtest, log).await.unwrap();
    attempt
}

/// Two tests, one with three attempts, the log of their VM, and an artifact.
async fn fill(writer: &Writer, of: char) {
    record(writer, of, "f.x", Verdict::FailedToRun { reason: "no VM".into() }).await;
    record(writer, of, "f.x", Verdict::Passed).await;
    record(writer, of, "f.x", Verdict::Passed).await;
    record(writer, of, "f.y", Verdict::Passed).await;
    let attempts = [(key("f.x"), 2), (key("f.y"), 1)];
    writer.publish_logs(&commit(of), &attempts, LogKind::Full, plain("the VM\n")).await.unwrap();
    let keys = [key("f.x"), key("f.y")];
    writer
        .publish_artifact(&commit(of), &keys, "kernel.config".parse().unwrap(), plain("CONFIG_A=y\n"))
        .await
        .unwrap();
}

async fn settle(writer: &Writer) {
    writer.flush().await.unwrap();
    writer.directories_written().await.unwrap();
    assert!(writer.problems().is_empty(), "{:?}", writer.problems());
}

/// The files below the directory of a commit, with their plain content.
fn files(dir: &Path, of: char) -> BTreeMap<String, String> {
    fn walk(top: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(top, &path, found);
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            if path.extension().is_some_and(|extension| extension == "br") {
                let mut text = Vec::new();
                brotli::BrotliDecompress(&mut bytes.as_slice(), &mut text).unwrap();
                bytes = text;
            }
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            found.insert(name, String::from_utf8(bytes).unwrap());
        }
    }
    let mut found = BTreeMap::new();
    let top = dir.join(commit(of).as_str());
    walk(&top, &top, &mut found);
    found
}

fn expected(of: char) -> BTreeMap<String, String> {
    [
        ("f.x/status", "========= PASSED f.x in 2s\n".to_owned()),
        ("f.x/duration", "2\n".into()),
        ("f.x/log.br", format!("log of {of} f.x 2\n")),
        ("f.x/attempt.1/log.br", format!("log of {of} f.x 1\n")),
        ("f.x/attempt.3/log.br", format!("log of {of} f.x 3\n")),
        ("f.x/full_log.br", "the VM\n".into()),
        ("f.x/kernel.config.br", "CONFIG_A=y\n".into()),
        ("f.y/status", "========= PASSED f.y in 2s\n".into()),
        ("f.y/duration", "2\n".into()),
        ("f.y/log.br", format!("log of {of} f.y 1\n")),
        ("f.y/full_log.br", "the VM\n".into()),
        ("f.y/kernel.config.br", "CONFIG_A=y\n".into()),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_commits_have_directories() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path(), 2);
    list(&writer, "cba").await;
    for of in ['a', 'b', 'c', 'd'] {
        fill(&writer, of).await;
    }
    settle(&writer).await;
    assert_eq!((files(dir.path(), 'b'), files(dir.path(), 'c')), (expected('b'), expected('c')));
    assert!(
        !dir.path().join(commit('a').as_str()).exists() && !dir.path().join(commit('d').as_str()).exists()
    );
    // The tests of a VM share one file.
    let inode = |name| dir.path().join(commit('b').as_str()).join(name).metadata().unwrap().ino();
    assert_eq!(inode("f.x/full_log.br"), inode("f.y/full_log.br"));

    // A commit that leaves the newest ones loses what is derived, one that enters them gets it.
    std::fs::write(dir.path().join(commit('b').as_str()).join("f.x/core"), "mine").unwrap();
    list(&writer, "dcba").await;
    settle(&writer).await;
    assert_eq!(files(dir.path(), 'd'), expected('d'));
    assert_eq!(files(dir.path(), 'b'), [("f.x/core".to_owned(), "mine".to_owned())].into());
    writer.close().await.unwrap();

    // Also after a restart with another number, and without a restart.
    let writer = open(dir.path(), 1);
    settle(&writer).await;
    assert!(files(dir.path(), 'c').is_empty());
    writer.set_compat_tree(4).unwrap();
    settle(&writer).await;
    for of in ['a', 'c', 'd'] {
        assert_eq!(files(dir.path(), of), expected(of));
    }
    assert_eq!(files(dir.path(), 'b').len(), expected('b').len() + 1);
    writer.set_compat_tree(0).unwrap();
    settle(&writer).await;
    assert_eq!(files(dir.path(), 'b').len(), 1);
    assert!(['a', 'c', 'd'].iter().all(|of| !dir.path().join(commit(*of).as_str()).exists()));
    // Readers have everything without the directories.
    let reader = writer.reader();
    let names: Vec<String> =
        reader.artifacts(&commit('a'), &key("f.x")).unwrap().into_iter().map(|row| row.name).collect();
    let prefix = |name: &String| name.strip_prefix("f.x/").map(ToOwned::to_owned);
    assert_eq!(names, expected('a').keys().filter_map(prefix).collect::<Vec<_>>());
    let status = reader.artifact(&commit('a'), &key("f.x"), "status").unwrap();
    assert_eq!(String::from_utf8(status).unwrap(), expected('a')["f.x/status"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_tests_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path(), 0);
    list(&writer, "a").await;
    writer.in_progress(&commit('a'), vec![key("f.x")], 1, None, None).unwrap();
    let mut live = writer.live_log(&commit('a'), &key("f.x"), LogKind::Subtest).unwrap();
    live.write_all(b"growing").unwrap();
    settle(&writer).await;
    assert_eq!(files(dir.path(), 'a').into_keys().collect::<Vec<_>>(), ["f.x/log"]);
    record(&writer, 'a', "f.x", Verdict::Passed).await;
    settle(&writer).await;
    assert!(!dir.path().join(commit('a').as_str()).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_of_an_earlier_version_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let test = dir.path().join(commit('a').as_str()).join("f.x");
    std::fs::create_dir_all(&test).unwrap();
    std::fs::write(test.join("status"), "FAILED TO RUN\n").unwrap();
    std::fs::write(test.join("note"), "theirs").unwrap();
    let writer = open(dir.path(), 1);
    assert_eq!(writer.opened().imported.tests, 1);
    list(&writer, "ba").await;
    // Its directory is kept, and follows the results although the commit is not among the newest.
    assert_eq!(record(&writer, 'a', "f.x", Verdict::Passed).await, 2);
    settle(&writer).await;
    let found = files(dir.path(), 'a');
    assert_eq!((found["f.x/note"].as_str(), found["f.x/log.br"].as_str()), ("theirs", "log of a f.x 2\n"));
    assert_eq!(found["f.x/status"], "========= PASSED f.x in 2s\n");
    writer.set_compat_tree(0).unwrap();
    settle(&writer).await;
    assert_eq!(files(dir.path(), 'a'), found);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tree_is_exported() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let writer = open(dir.path(), 0);
    fill(&writer, 'a').await;
    fill(&writer, 'b').await;
    settle(&writer).await;
    // A file of an earlier version is exported, too.
    let old = dir.path().join(commit('b').as_str()).join("f.y");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("core"), "core").unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let exported = export_tree(&reader, to.path(), &[]).unwrap();
    assert_eq!(exported, Exported { commits: 2, tests: 4, files: 17 });
    assert_eq!(files(to.path(), 'a'), expected('a'));
    assert_eq!(files(to.path(), 'b')["f.y/core"], "core");
    std::fs::remove_dir_all(to.path().join(commit('a').as_str())).unwrap();
    assert_eq!(export_tree(&reader, to.path(), &[commit('a')]).unwrap().commits, 1);
    assert_eq!(files(to.path(), 'a'), expected('a'));
    assert!(export_tree(&reader, to.path(), &[commit('c')]).is_err());
}
