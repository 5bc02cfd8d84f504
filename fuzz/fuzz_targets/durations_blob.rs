//! The historical durations: data or an error; what is read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use results::codec::{Aligned, decode_durations, encode_durations};

fuzz_target!(|bytes: &[u8]| {
    let Ok(blob) = decode_durations(Aligned::from(bytes).bytes()) else { return };
    let again = encode_durations(blob.entries.iter(), blob.mark);
    let again = decode_durations(Aligned::from(&*again).bytes()).expect("what we write is read");
    assert_eq!(again.entries, blob.entries);
});
