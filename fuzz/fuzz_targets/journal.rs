//! A segment of the journal. Every record is counted, and records with a wrong checksum are rejected.
#![no_main]

use libfuzzer_sys::fuzz_target;
use results::inspect_segment;

fuzz_target!(|bytes: &[u8]| {
    let found = inspect_segment(bytes);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(found.records + found.damaged, lines);
    assert_eq!(found.torn, bytes.last().is_some_and(|last| *last != b'\n'));
    // A fuzzer does not find checksums: use the same bytes as the content of valid lines.
    let mut whole = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        whole.extend_from_slice(&results::checked_line(line));
    }
    let _ = inspect_segment(&whole);
});
