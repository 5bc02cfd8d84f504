//! A line of the event protocol: what is understood is written and understood again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::Stamped;

fuzz_target!(|text: &str| {
    if let Ok(Some(event)) = Stamped::parse(text) {
        let line = serde_json::to_string(&event).expect("an event is written");
        assert_eq!(Stamped::parse(&line).expect("what we write is read"), Some(event));
    }
});
