//! A branch's listing: data or an error; what is read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use results::codec::{Aligned, decode_branch, encode_branch};

fuzz_target!(|bytes: &[u8]| {
    let Ok(entries) = decode_branch(Aligned::from(bytes).bytes()) else { return };
    let again = encode_branch(&entries);
    assert_eq!(decode_branch(Aligned::from(&*again).bytes()).expect("what we write is read"), entries);
});
