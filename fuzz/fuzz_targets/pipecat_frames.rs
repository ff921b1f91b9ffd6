//! Pipecat's protobuf frames: what is read is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::transport::pipecat::Frame;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(frame)) = Frame::decode(data) {
        assert_eq!(Frame::decode(&frame.encode()), Ok(Some(frame)));
    }
});
