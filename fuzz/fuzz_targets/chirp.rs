//! CHIRP's text and binary messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::transport::chirp::Session;

fuzz_target!(|data: &[u8]| {
    let mut session = Session::default();
    for line in data.split(|byte| *byte == b'\n') {
        let read = match line {
            [0, binary @ ..] => session.binary(binary),
            text => session.text(&String::from_utf8_lossy(text)),
        };
        if let Err(refusal) = read {
            assert!(!refusal.message.is_empty());
        }
    }
});
