//! The blob of a commit. Any input gives data or an error; data round-trips through encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use results::codec::{Aligned, decode_commit, encode_commit};

fuzz_target!(|bytes: &[u8]| {
    let commit = "1".repeat(40).parse().expect("a commit id");
    let Ok(blob) = decode_commit(&commit, Aligned::from(bytes).bytes()) else { return };
    let again = encode_commit(&blob.results, blob.mark);
    let again = decode_commit(&commit, Aligned::from(&*again).bytes()).expect("a blob that we wrote is readable");
    assert_eq!(again.results, blob.results);
});
