//! A configuration, as TOML and as JSON5. Any input gives a configuration or an error message.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FILES: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
    let dir = PathBuf::from(format!("/dev/shm/ktest-ci-fuzz.{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory in memory");
    ["toml", "json5"].map(|end| dir.join(format!("ktest-ci.{end}")))
});

fuzz_target!(|bytes: &[u8]| {
    for file in &*FILES {
        std::fs::write(file, bytes).expect("a file in memory");
        if let Err(error) = config::load(file) {
            assert!(!error.to_string().is_empty());
        }
    }
});
