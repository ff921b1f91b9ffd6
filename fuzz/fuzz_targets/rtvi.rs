//! RTVI messages of a Pipecat bot, and of its clients.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::call::LegEvent;
use trunkline::transport::pipecat::Bot;
use trunkline::transport::pipecat::rtvi::Rtvi;

fuzz_target!(|data: &[u8]| {
    let (mut rtvi, mut bot, mut events) = (Rtvi::default(), Bot::default(), Vec::<LegEvent>::new());
    for line in data.split(|byte| *byte == b'\n') {
        if let Err(problem) = bot.take(&String::from_utf8_lossy(line)) {
            assert!(!problem.to_string().is_empty());
        }
        if let Err(problem) = rtvi.take(&String::from_utf8_lossy(line), &mut events) {
            assert!(!problem.to_string().is_empty());
        }
    }
});
