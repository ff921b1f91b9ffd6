//! The frames of Cekura's chat WebSocket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::transport::chat::protocol;

fuzz_target!(|data: &[u8]| {
    drop(protocol::read(&String::from_utf8_lossy(data)));
});
