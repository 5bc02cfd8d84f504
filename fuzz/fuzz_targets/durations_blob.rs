//! The mean durations. Any input gives data or an error; data round-trips through encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use results::codec::{Aligned, decode_durations, encode_durations};

fuzz_target!(|bytes: &[u8]| {
    let Ok(blob) = decode_durations(Aligned::from(bytes).bytes()) else { return };
    let again = encode_durations(blob.entries.iter(), blob.mark);
    let again = decode_durations(Aligned::from(&*again).bytes()).expect("durations that we wrote are readable");
    assert_eq!(again.entries, blob.entries);
});
