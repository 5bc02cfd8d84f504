//! What a test file declares.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let variables = ktest::testfile::parse_variables(text);
    let _ = ktest::declare::Declarations::from_variables(&variables, model::Arch::X86_64, "/t".as_ref());
});
