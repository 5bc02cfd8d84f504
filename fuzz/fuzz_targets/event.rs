//! A line of the event protocol. A parsed event round-trips through printing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::Stamped;

fuzz_target!(|text: &str| {
    if let Ok(Some(event)) = Stamped::parse(text) {
        let line = serde_json::to_string(&event).expect("an event can be serialized");
        assert_eq!(Stamped::parse(&line).expect("an event that we wrote is readable"), Some(event));
    }
});
