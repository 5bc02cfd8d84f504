//! A console log. Crash reports are within the log and in order.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split('\n').count();
    let mut last = 0;
    for report in crash::reports(&text) {
        assert!(last <= report.start_line && report.start_line <= report.end_line && report.end_line <= lines);
        last = report.start_line;
        let _ = report.excerpt(&text);
    }
});
