//! The real LiveKit side of the tests, by itself: livekit-server 1.13.5, LiveKit's Python client 1.1.21, livekit-agents 1.8.9.

mod common;

use common::livekit::{LiveKitServer, Options, Peer, agent_worker, gaps, gone, tone_level};
use common::{path, until};
use serde_json::{Value, json};

const RATE: u32 = 48_000;
/// Of the peers' tones.
const DBFS: f64 = -15.0;

/// A tone for so long as it takes until the other has heard `seconds` of it.
fn hear(listener: &Peer, speaker: &str, seconds: u64) {
    listener.event("first_audio", |event| event["participant"] == speaker);
    std::thread::park_timeout(std::time::Duration::from_secs(seconds));
}

#[test]
fn two_participants_hear_each_others_tones_without_a_gap() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let record = json!({"record": path(folder.path())});
    let mut ann = Peer::joined(&server, "tones", "ann", record.clone());
    let mut bob = Peer::joined(&server, "tones", "bob", record);
    ann.tell("tone", json!({"hz": 440}));
    bob.tell("tone", json!({"hz": 700}));
    hear(&bob, "ann", 3);
    hear(&ann, "bob", 0);
    for (heard, own, other) in [(bob.recording_of("ann"), 440.0, 700.0), (ann.recording_of("bob"), 700.0, 440.0)] {
        let middle = &heard[heard.len() / 4..heard.len() * 3 / 4];
        assert!(middle.len() > RATE as usize, "{} samples", heard.len());
        let (right, wrong) = (tone_level(middle, RATE, own), tone_level(middle, RATE, other));
        assert!((right - DBFS).abs() < 1.5, "{own} Hz at {right} dBFS");
        assert!(wrong < DBFS - 40.0, "{other} Hz at {wrong} dBFS");
        assert_eq!(gaps(middle, RATE, own, DBFS), Vec::<usize>::new());
    }
}
