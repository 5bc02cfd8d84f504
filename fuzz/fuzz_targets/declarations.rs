//! The declarations of a test file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let variables = testfile::parse_variables(text);
    let _ = testfile::Declarations::from_variables(&variables, model::Arch::X86_64, "/t".as_ref());
});
