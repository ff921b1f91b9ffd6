//! What goes over the data channel of Pipecat's WebRTC, STUN and TURN servers as it writes them, and session descriptions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::transport::pipecat::IceServers;
use trunkline::transport::pipecat::web_rtc::ChannelMessage;
use trunkline::transport::webrtc::{IceOptions, Peer};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let problem = match which % 3 {
        0 => ChannelMessage::parse(rest).err().map(|problem| problem.to_string()),
        1 => IceServers::parse(&text).err().map(|problem| problem.to_string()),
        _ => {
            // A connection has timers, which need a runtime.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let _inside = runtime.enter();
            Peer::new(&[], &IceOptions::default()).answer(&text).err().map(|problem| problem.to_string())
        }
    };
    assert!(problem.is_none_or(|problem| !problem.is_empty()));
});
