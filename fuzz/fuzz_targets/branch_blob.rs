//! The listing of a branch. Any input gives data or an error; data round-trips through encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use results::codec::{Aligned, decode_branch, encode_branch};

fuzz_target!(|bytes: &[u8]| {
    let Ok(entries) = decode_branch(Aligned::from(bytes).bytes()) else { return };
    let again = encode_branch(&entries);
    assert_eq!(decode_branch(Aligned::from(&*again).bytes()).expect("a listing that we wrote is readable"), entries);
});
