//! A results directory with an arbitrary blob. Every query gives data or an error: those that read a few bytes of the
//! blob (statuses, sums, one test, histories) and those that read all of it.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model::{CommitId, Counts};
use results::codec::encode_branch;
use results::{BranchEntry, Reader};

struct Results {
    dir: PathBuf,
    commit: CommitId,
    reader: Reader,
}

static RESULTS: LazyLock<Results> = LazyLock::new(|| {
    let dir = PathBuf::from(format!("/dev/shm/ktest-ci-fuzz.{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory in memory");
    let commit: CommitId = "1".repeat(40).parse().expect("a commit id");
    let row = |commit: &CommitId| BranchEntry {
        commit: commit.clone(),
        message: String::new(),
        counts: Counts::default(),
        duration: std::time::Duration::ZERO,
    };
    // Listed twice, like two commits with the same tests.
    let listing = encode_branch(&[row(&commit), row(&commit)]);
    std::fs::write(dir.join("branch.u.b.capnp"), listing).expect("a file in memory");
    let reader = Reader::open(&dir).expect("a directory");
    Results { dir, commit, reader }
});

fuzz_target!(|bytes: &[u8]| {
    let Results { dir, commit, reader } = &*RESULTS;
    std::fs::write(dir.join(format!("{commit}.capnp")), bytes).expect("a file in memory");
    let _ = reader.statuses(commit);
    let _ = reader.summary(commit);
    let whole = reader.commit(commit);
    let mut keys = vec!["fs.ext4.basic.punch".parse().expect("a key")];
    keys.extend(whole.iter().flatten().flat_map(|results| &results.entries).take(3).map(|entry| entry.key.clone()));
    for key in &keys {
        let _ = reader.entry(commit, key);
        let _ = reader.history(&"u/b".parse().unwrap(), key);
    }
    let rows = reader.branch_filtered(&"u/b".parse().unwrap(), |key| key.as_str().len() % 2 == 0);
    assert_eq!(rows.expect("the listing is whole").map(|rows| rows.len()), Some(2));
});
