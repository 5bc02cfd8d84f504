//! A console line and a status file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::marker::{Marker, status_of_file};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        let _ = Marker::parse(line);
    }
    let _ = status_of_file(&text);
    let _ = crash::trouble(&text);
});
