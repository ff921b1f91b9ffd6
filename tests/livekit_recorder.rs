//! `trunkline record livekit` against a real livekit-server 1.13.5, with participants on LiveKit's Python client 1.1.21 and
//! agents of livekit-agents 1.8.9.

mod common;

use std::path::{Path, PathBuf};

use common::livekit::{LiveKitServer, Peer, gaps, tone_level, tone_seconds};
use common::{Running, events, path, trunkline, wav};
use serde_json::{Value, json};

const RATE: u32 = 48_000;
/// Of the tones.
const DBFS: f64 = -15.0;

/// A recorder of `server`, told in JSON lines.
fn recorder(server: &LiveKitServer, out: &Path, which: &[&str]) -> Running {
    let arguments = ["record", "livekit", "--out", path(out), "--poll-s", "0.2", "--format", "json"];
    let mut command = trunkline(&arguments);
    command.args(which).envs(server.env()).env("TRUNKLINE_LEDGER", out.join("ledger.sqlite"));
    Running::stdout_of(command)
}

fn line(recorder: &Running, event: &str) -> Value {
    recorder.wait_for(event, |line| serde_json::from_str::<Value>(line).ok().filter(|line| line["event"] == event))
}

fn folder(line: &Value) -> PathBuf {
    PathBuf::from(line["folder"].as_str().expect("a folder"))
}

fn call_json(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("call.json")).expect("a file")).expect("JSON")
}

/// The track of `identity` in `call.json`, which has one.
fn track_of<'a>(info: &'a Value, identity: &str) -> &'a Value {
    let tracks: Vec<_> = info["room"]["tracks"].as_array().expect("a list").iter().collect();
    let mut own = tracks.iter().filter(|track| track["identity"] == identity);
    own.next().unwrap_or_else(|| panic!("no track of {identity}: {tracks:#?}"))
}

fn samples_of(folder: &Path, info: &Value, identity: &str) -> Vec<i16> {
    wav(&folder.join(format!("{}.wav", track_of(info, identity)["file"].as_str().expect("a name"))))
}

/// The tone is there for at least `seconds` without a gap, and the others are not.
fn assert_is_one_tone(heard: &[i16], right: f64, wrong: &[f64], seconds: f64) {
    let there = tone_seconds(heard, RATE, right, DBFS);
    assert!(there >= seconds, "{right} Hz for {there} s");
    assert_eq!(gaps(heard, RATE, right, DBFS), Vec::<usize>::new(), "of {right} Hz");
    for wrong in wrong {
        let level = tone_level(heard, RATE, *wrong);
        assert!(level < DBFS - 40.0, "{wrong} Hz at {level} dBFS");
    }
}

#[test]
fn each_participant_is_recorded_in_a_file_of_its_own_and_caller_and_agent_in_stereo() {
    let server = LiveKitServer::start();
    let out = tempfile::tempdir().unwrap();
    let mut ann = Peer::joined(&server, "tones", "ann", json!({}));
    let mut bot = Peer::joined(&server, "tones", "bot", json!({"kind": "agent"}));
    let mut carl = Peer::joined(&server, "tones", "carl ../", json!({"record": path(out.path())}));
    let mut recorder = recorder(&server, out.path(), &["--room", "tones"]);
    let began = line(&recorder, "began");
    ann.tell("tone", json!({"hz": 440}));
    bot.tell("tone", json!({"hz": 700}));
    carl.tell("tone", json!({"hz": 950}));
    carl.tell("hear", json!({"identity": "ann", "seconds": 7}));
    carl.tell("hear", json!({"identity": "bot", "seconds": 0.5}));
    carl.tell("delete_room", json!({"room": "tones"}));
    let over = line(&recorder, "over");
    recorder.stop();
    let folder = folder(&over);
    assert_eq!(began["folder"], over["folder"]);
    let info = call_json(&folder);
    assert_eq!(info["room"]["name"], "tones");
    assert_eq!(info["room"]["sid"], over["sid"]);
    assert_eq!(info["end"]["reason"], "hung_up");
    for (identity, file) in [("ann", Some("caller")), ("bot", Some("agent")), ("carl ../", None)] {
        let track = track_of(&info, identity);
        assert!(file.is_none_or(|file| track["file"] == file), "{track}");
        assert_eq!(track["lost"], 0, "{track}");
    }
    let tones = [("ann", 440.0), ("bot", 700.0), ("carl ../", 950.0)];
    for (identity, hz) in tones {
        let others: Vec<f64> = tones.iter().map(|(_, hz)| *hz).filter(|other| *other != hz).collect();
        assert_is_one_tone(&samples_of(&folder, &info, identity), hz, &others, 6.0);
    }
    let stereo = wav(&folder.join("stereo.wav"));
    let side = |side: usize| -> Vec<i16> { stereo.iter().skip(side).step_by(2).copied().collect() };
    assert_is_one_tone(&side(0), 440.0, &[700.0, 950.0], 6.0);
    assert_is_one_tone(&side(1), 700.0, &[440.0, 950.0], 6.0);
    let log = events(&folder);
    assert_eq!(log.first().unwrap()["event"], "started");
    assert_eq!(log.last().unwrap()["event"], "ended");
}
