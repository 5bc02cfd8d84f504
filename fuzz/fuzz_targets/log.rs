//! A stored log. Any input gives text up to the limit or an error, in bounded memory. A plain log of the same bytes
//! round-trips through storage.
#![no_main]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model::{CommitId, ResultKey};
use results::{LogKind, Reader};

const LIMIT: u64 = 1 << 20;

struct Results {
    file: PathBuf,
    commit: CommitId,
    key: ResultKey,
    reader: Reader,
}

static RESULTS: LazyLock<Results> = LazyLock::new(|| {
    let dir = PathBuf::from(format!("/dev/shm/ktest-ci-fuzz.{}", std::process::id()));
    let (commit, key) = ("1".repeat(40), "fs.ext4.basic.punch");
    let directory = dir.join(&commit).join(key);
    std::fs::create_dir_all(&directory).expect("a directory in memory");
    Results {
        file: directory.join("log.br"),
        commit: commit.parse().expect("a commit id"),
        key: key.parse().expect("a key"),
        reader: Reader::open(&dir).expect("a directory"),
    }
});

fn read() -> results::Result<(Vec<u8>, bool)> {
    let Results { commit, key, reader, .. } = &*RESULTS;
    reader.log(commit, key, LogKind::Subtest)?.expect("the log is there").read(LIMIT)
}

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&RESULTS.file, bytes).expect("a file in memory");
    if let Ok((text, all)) = read() {
        assert!(text.len() as u64 <= LIMIT && (all || text.len() as u64 == LIMIT));
    }
    let mut stored = Vec::new();
    let mut encoder = brotli::CompressorWriter::new(&mut stored, 4096, 4, 22);
    encoder.write_all(bytes).expect("memory is written");
    drop(encoder);
    std::fs::write(&RESULTS.file, stored).expect("a file in memory");
    assert_eq!(read().expect("what we store is read"), (bytes.to_vec(), true));
});
