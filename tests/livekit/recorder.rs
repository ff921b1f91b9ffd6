//! `trunkline record livekit` against a real livekit-server 1.13.5, with participants on LiveKit's Python client 1.1.21 and
//! agents of livekit-agents 1.8.9.

use crate::common;

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use common::livekit::{LiveKitServer, Options, Peer, agent_worker};
use common::tone::{gaps, tone_level, tone_seconds};
use common::{Running, events, path, run, trunkline, until, wav};
use livekit_api::access_token::AccessToken;
use serde_json::{Value, json};
use sha2::Digest;
use trunkline::ledger::{Intent, Ledger, LedgerRun};

const RATE: u32 = 48_000;
/// Of the tones.
const DBFS: f64 = -15.0;

/// A recorder of `server`, told in JSON lines.
fn recorder(server: &LiveKitServer, out: &Path, which: &[&str]) -> Running {
    let mut command = trunkline(&["record", "livekit", "--out", path(out), "--format", "json"]);
    if !which.contains(&"--poll-s") {
        command.args(["--poll-s", "0.2"]);
    }
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
    // The server tells the others of a track when its first packet has come: only then is Ann the first, and the caller.
    carl.tell("hear", json!({"identity": "ann", "seconds": 0.1}));
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

/// A file of bursts of noise, one every half second, all different, so that each is found where it is and nowhere else.
fn bursts(file: &Path, count: usize) -> Vec<Vec<f64>> {
    let mut state = 1_u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 16) / 32_768.0 - 1.0
    };
    let burst = RATE as usize / 20;
    // Smoothed: what is above some kilohertz the codec changes.
    let bursts: Vec<Vec<f64>> = (0..count)
        .map(|_| {
            let raw: Vec<f64> = (0..burst + 16).map(|_| noise()).collect();
            raw.windows(16).take(burst).map(|window| window.iter().sum::<f64>() / 8.0 * 12_000.0).collect()
        })
        .collect();
    let specification =
        hound::WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(file, specification).expect("a file");
    for burst in &bursts {
        for position in 0..RATE as usize / 2 {
            writer.write_sample(burst.get(position).map_or(0, |sample| *sample as i16)).expect("it is written");
        }
    }
    writer.finalize().expect("it is written");
    bursts
}

/// Where the burst lies in the recording: the place at which both agree the most.
fn place_of(burst: &[f64], heard: &[i16], from: usize, to: usize) -> Option<usize> {
    let agreement = |at: usize, step: usize| -> f64 {
        burst.iter().zip(&heard[at..]).step_by(step).map(|(sample, heard)| sample * f64::from(*heard)).sum()
    };
    let last = to.min(heard.len().checked_sub(burst.len())?);
    let best = (from..last).step_by(4).max_by(|one, two| agreement(*one, 4).total_cmp(&agreement(*two, 4)))?;
    (best.saturating_sub(8)..best + 8).filter(|at| *at < last).max_by(|one, two| agreement(*one, 1).total_cmp(&agreement(*two, 1)))
}

/// Where each burst lies. They come in order, half a second apart or so.
fn places_of(bursts: &[Vec<f64>], heard: &[i16]) -> Vec<f64> {
    let first = heard.iter().position(|sample| sample.unsigned_abs() > 2_000).expect("something was heard");
    let window = RATE as usize / 5;
    (0..bursts.len())
        .map(|number| {
            let about = first + number * RATE as usize / 2;
            let place = place_of(&bursts[number], heard, about.saturating_sub(window), about + window);
            place.expect("the recording is long enough") as f64
        })
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn tracks_lie_as_their_senders_sent_them_and_as_an_independent_listener_hears_them() {
    const BURSTS: usize = 20;
    let server = LiveKitServer::start();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("bursts.wav");
    let bursts = bursts(&file, BURSTS);
    let mut recorder = recorder(&server, out.path(), &["--all"]);
    let mut ann = Peer::joined(&server, "bursts", "ann", json!({}));
    let mut bot = Peer::joined(&server, "bursts", "bot", json!({"kind": "agent"}));
    let mut carl = Peer::joined(&server, "bursts", "carl", json!({"record": path(out.path())}));
    line(&recorder, "began");
    ann.tell("publish", json!({}));
    bot.tell("publish", json!({}));
    // Each of the two has been reported on once by its end, in a pause, and is placed by it.
    carl.tell("hear", json!({"identity": "ann", "seconds": 2}));
    carl.tell("hear", json!({"identity": "bot", "seconds": 2}));
    ann.send("play", json!({"file": path(&file)}));
    bot.send("play", json!({"file": path(&file)}));
    ann.answer("play").unwrap();
    bot.answer("play").unwrap();
    carl.tell("hear", json!({"identity": "ann", "seconds": 1}));
    let saved = carl.tell("saved", json!({}));
    recorder.interrupt();
    let folder = folder(&line(&recorder, "over"));
    assert!(recorder.wait().success());
    let info = call_json(&folder);
    assert_eq!(info["end"]["reason"], "cancelled");
    let mut apart = Vec::new();
    for identity in ["ann", "bot"] {
        let track = track_of(&info, identity);
        assert_eq!(track["placed_by"], "sender_report", "{track}");
        let ours = places_of(&bursts, &samples_of(&folder, &info, identity));
        let theirs = saved["recordings"].as_array().unwrap().iter().find(|recording| recording["identity"] == identity).unwrap();
        let listened = places_of(&bursts, &wav(Path::new(theirs["file"].as_str().unwrap())));
        // To the sample as they were sent; a client that was late by itself once has put a pause in.
        let spacing = ours.windows(2).map(|pair| (pair[1] - pair[0] - f64::from(RATE / 2)).abs()).collect();
        assert!(median(spacing) <= 1.0, "{identity}: {ours:?}");
        // And the listener has the same between them, but for where its own jitter buffer has stretched a pause.
        let apart_by = |places: &[f64]| -> Vec<f64> { places.windows(2).map(|pair| pair[1] - pair[0]).collect() };
        let differs = apart_by(&ours).iter().zip(apart_by(&listened)).map(|(ours, theirs)| (ours - theirs).abs()).collect();
        assert!(median(differs) <= 1.0, "{identity}: {ours:?}, {listened:?}");
        let middle = median(ours.iter().zip(&listened).map(|(ours, theirs)| ours - theirs).collect());
        apart.push((middle / f64::from(RATE), theirs["first_at"].as_f64().unwrap()));
    }
    // Sender against sender: what the listener heard of one before the other, we have before it too, as well as the moments can be
    // told at which its tracks began.
    let [(ann, ann_at), (bot, bot_at)] = apart[..] else { panic!("two were recorded") };
    let off = (bot - ann) - (bot_at - ann_at);
    assert!(off.abs() < 0.05, "{off} s");
}

#[test]
fn nobody_sees_the_recorder() {
    let server = LiveKitServer::start();
    let out = tempfile::tempdir().unwrap();
    let ann = Peer::joined(&server, "unseen", "ann", json!({"topics": ["lk.chat"]}));
    let recorder = recorder(&server, out.path(), &["--room", "unseen"]);
    line(&recorder, "began");
    // Whatever was to be told of the recorder has been told before this.
    let mut bob = Peer::joined(&server, "unseen", "bob", json!({}));
    bob.tell("text", json!({"text": "here", "topic": "lk.chat"}));
    ann.event("text", |event| event["text"] == "here");
    let seen = ann.told();
    let others: Vec<_> =
        seen.iter().filter(|event| event["event"] == "participant_connected" && event["participant"] != "bob").collect();
    assert!(others.is_empty(), "{others:#?}");
    let mut cid = Peer::new(&server);
    let joined = cid.tell("join", json!({"room": "unseen", "identity": "cid"}));
    let others: Vec<_> = joined["others"].as_array().unwrap().iter().map(|other| other["identity"].as_str().unwrap()).collect();
    assert!(others.len() == 2 && others.iter().all(|other| ["ann", "bob"].contains(other)), "{others:?}");
}

#[test]
fn rooms_at_once_are_each_tied_to_their_own_run() {
    const ROOMS: usize = 10;
    let server = LiveKitServer::start();
    let out = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&out.path().join("ledger.sqlite")).unwrap();
    let body = json!({});
    let start = ledger.intend(&Intent { mode: "livekit_v2", name: "any", base_url: "http://any", body: &body }).unwrap();
    ledger.sent(start).unwrap();
    let known = LedgerRun { run_id: 1003, scenario_id: Some(3), scenario_name: Some("The third".to_owned()) };
    ledger.replied(start, 7, &[known]).unwrap();
    let mut recorder = recorder(&server, out.path(), &["--agent", "wanted"]);
    let hz = |room: usize| 400.0 + 60.0 * room as f64;
    let mut peers: Vec<Peer> = (0..=ROOMS)
        .map(|room| {
            let mut peer = Peer::new(&server);
            let name = format!("room-{room}");
            peer.send("join", json!({"room": name, "identity": "ann"}));
            peer
        })
        .collect();
    for (room, peer) in peers.iter_mut().enumerate() {
        peer.answer("join").unwrap();
        peer.tell("tone", json!({"hz": hz(room)}));
        let agent = if room < ROOMS { "wanted" } else { "another" };
        let metadata = json!({"run_id": 1000 + room, "scenario_id": room, "test_profile_data": {}}).to_string();
        peer.tell("dispatch", json!({"room": format!("room-{room}"), "agent_name": agent, "metadata": metadata}));
    }
    for _ in 0..ROOMS {
        line(&recorder, "began");
    }
    let folders =
        || std::fs::read_dir(out.path()).unwrap().filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
    // Each has 2 s of audio.
    until("the audio of all rooms", || {
        let size = |folder: PathBuf| std::fs::metadata(folder.join("caller.wav")).map_or(0, |file| file.len());
        let long = |folder: PathBuf| size(folder) > u64::from(RATE) * 2 * 3;
        (folders().filter(|folder| long(folder.clone())).count() == ROOMS).then_some(())
    });
    recorder.interrupt();
    let overs: Vec<Value> = (0..ROOMS).map(|_| line(&recorder, "over")).collect();
    assert!(recorder.wait().success());
    assert_eq!(folders().count(), ROOMS, "the room of another agent is not recorded");
    for over in overs {
        let room: usize = over["room"].as_str().unwrap().strip_prefix("room-").unwrap().parse().unwrap();
        let info = call_json(&folder(&over));
        for told in [&over, &info] {
            let ids = (told["run_id"].as_str(), told["scenario_id"].as_str());
            assert_eq!(ids, (Some((1000 + room).to_string().as_str()), Some(room.to_string().as_str())));
        }
        assert_eq!(info["room"]["dispatches"][0]["metadata"]["run_id"], 1000 + room);
        let heard = samples_of(&folder(&over), &info, "ann");
        assert!(tone_seconds(&heard, RATE, hz(room), DBFS) > 2.0, "room {room} has its own tone");
    }
    let tied = ledger.calls_of_result("7").unwrap();
    assert_eq!(tied.len(), 1);
    assert_eq!((tied[0].ids.run_id.as_deref(), tied[0].ids.scenario.as_deref()), (Some("1003"), Some("The third")));
    assert_eq!(call_json(&tied[0].folder)["room"]["name"], "room-3");
}

#[test]
fn what_a_killed_recorder_leaves_is_mended_and_measured() {
    let server = LiveKitServer::start();
    let out = tempfile::tempdir().unwrap();
    let mut ann = Peer::joined(&server, "killed", "ann", json!({}));
    let mut bob = Peer::joined(&server, "killed", "bob", json!({"record": path(out.path())}));
    ann.tell("dispatch", json!({"room": "killed", "agent_name": "any", "metadata": "{\"run_id\": \"r-1\", \"scenario_id\": 4}"}));
    let mut recorder = recorder(&server, out.path(), &["--room", "killed"]);
    let folder = folder(&line(&recorder, "began"));
    ann.tell("tone", json!({"hz": 440}));
    bob.tell("tone", json!({"hz": 700}));
    until("the run's id", || (call_json(&folder)["run_id"] == "r-1").then_some(()));
    let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |file| file.len());
    let own = || {
        let info = call_json(&folder);
        let tracks = info["room"]["tracks"].as_array().cloned().unwrap_or_default();
        tracks.iter().find(|track| track["file"] != "caller").map(|track| format!("{}.wav", track["file"].as_str().unwrap()))
    };
    let own = until("the other's track", own);
    until("3 s of audio", || (size("caller.wav").min(size(&own)) > u64::from(RATE) * 6).then_some(()));
    recorder.kill_9();
    let mended = run(&["record", "repair", path(&folder)]);
    assert!(mended.status.success(), "{}", String::from_utf8_lossy(&mended.stderr));
    let info = call_json(&folder);
    assert_eq!((&info["repaired"], &info["run_id"], &info["scenario_id"]), (&json!(true), &json!("r-1"), &json!("4")));
    for track in info["room"]["tracks"].as_array().unwrap() {
        let (right, wrong) = if track["identity"] == "ann" { (440.0, 700.0) } else { (700.0, 440.0) };
        let heard = wav(&folder.join(format!("{}.wav", track["file"].as_str().unwrap())));
        assert_is_one_tone(&heard, right, &[wrong], 2.0);
    }
    assert!(info["more_tracks"][0]["samples"].as_u64().unwrap() > u64::from(RATE) * 2);
    assert!(wav(&folder.join("stereo.wav")).len() > RATE as usize * 4);
    assert!(run(&["measure", path(&folder), "--format", "json"]).status.success());
}

#[test]
fn a_room_is_found_by_the_servers_webhooks() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let hooks = Options { webhooks: vec![format!("http://{address}/any/path")], ..Options::default() };
    let server = LiveKitServer::start_with(&hooks);
    let out = tempfile::tempdir().unwrap();
    let recorder = recorder(&server, out.path(), &["--all", "--poll-s", "86400", "--webhook-listen", &address]);
    until("the door", || std::net::TcpStream::connect(&address).ok());
    let mut ann = Peer::joined(&server, "hooked", "ann", json!({}));
    assert_eq!(line(&recorder, "began")["room"], "hooked");
    ann.tell("delete_room", json!({"room": "hooked"}));
    assert_eq!(line(&recorder, "over")["end"]["reason"], "hung_up");
}

#[test]
fn a_webhook_that_is_not_the_servers_is_refused_and_changes_nothing() {
    let server = LiveKitServer::start();
    let out = tempfile::tempdir().unwrap();
    let mut command = trunkline(&["record", "livekit", "--all", "--poll-s", "86400", "--webhook-listen", "127.0.0.1:0"]);
    command.args(["--out", path(out.path()), "--until-idle-s", "2"]).envs(server.env());
    let mut recorder = Running::stderr_of(command);
    let address = recorder.wait_for("its door", |line| {
        Some(line.strip_prefix("listening for webhooks on http://")?.trim_end_matches('/').to_owned())
    });
    let mut peer = Peer::new(&server);
    peer.tell("create_room", json!({"room": "theirs"}));
    let post = |token: &str, body: &str| -> String {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\nContent-Type: application/webhook+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let (head, _) = common::read_http(&mut stream).unwrap();
        head.split(' ').nth(1).unwrap().to_owned()
    };
    let body = json!({"event": "room_started", "room": {"name": "theirs"}}).to_string();
    let signed = |secret: &str, of: &str| {
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(of));
        AccessToken::with_api_key(server.key(), secret).with_sha256(&hash).to_jwt().unwrap()
    };
    assert_eq!(post("", &body), "401");
    assert_eq!(post("no-token", &body), "401");
    assert_eq!(post(&signed("another-secret-that-is-long-enough-too", &body), &body), "401");
    assert_eq!(post(&signed(server.secret(), "another body"), &body), "401");
    assert!(std::fs::read_dir(out.path()).unwrap().next().is_none(), "nothing is recorded");
    // What is signed as it must be is believed, also with fields that nobody knows.
    let body = json!({"event": "room_started", "room": {"name": "theirs"}, "ofALaterVersion": {}}).to_string();
    assert_eq!(post(&signed(server.secret(), &body), &body), "200");
    until("the recording", || std::fs::read_dir(out.path()).unwrap().next().map(drop));
    peer.tell("delete_room", json!({"room": "theirs"}));
    // And then it is idle.
    assert!(recorder.wait().success());
}

#[test]
fn who_comes_back_goes_on_in_the_same_file_and_what_was_not_said_is_a_gap() {
    let server = LiveKitServer::start();
    let out = tempfile::tempdir().unwrap();
    let mut bot = Peer::joined(&server, "gaps", "bot", json!({"kind": "agent", "record": path(out.path())}));
    let mut recorder = recorder(&server, out.path(), &["--room", "gaps"]);
    line(&recorder, "began");
    let mut carl = Peer::joined(&server, "gaps", "carl", json!({"record": path(out.path())}));
    bot.tell("tone", json!({"hz": 700}));
    let mut ann = Peer::joined(&server, "gaps", "ann", json!({}));
    ann.tell("tone", json!({"hz": 440}));
    let mut pause = |seconds: f64| drop(carl.tell("hear", json!({"identity": "bot", "seconds": seconds})));
    pause(2.0);
    ann.tell("mute", json!({}));
    pause(1.5);
    ann.tell("unmute", json!({}));
    pause(2.0);
    ann.tell("leave", json!({}));
    pause(2.0);
    ann.tell("join", json!({"room": "gaps", "identity": "ann"}));
    ann.tell("tone", json!({"hz": 440}));
    pause(2.0);
    recorder.interrupt();
    let folder = folder(&line(&recorder, "over"));
    assert!(recorder.wait().success());
    let info = call_json(&folder);
    let tracks: Vec<_> = info["room"]["tracks"].as_array().unwrap().iter().filter(|track| track["identity"] == "ann").collect();
    assert_eq!(tracks.iter().map(|track| track["file"].as_str().unwrap()).collect::<Vec<_>>(), ["caller", "caller"]);
    let (caller, agent) = (wav(&folder.join("caller.wav")), wav(&folder.join("agent.wav")));
    assert_eq!(gaps(&agent, RATE, 700.0, DBFS), Vec::<usize>::new());
    // In pieces of 20 ms: the mute, and then the absence.
    let gaps = gaps(&caller, RATE, 440.0, DBFS);
    assert!(gaps.len() == 2 && (60..120).contains(&gaps[0]) && gaps[1] >= 85, "{gaps:?}");
    let spoken = tone_seconds(&caller, RATE, 440.0, DBFS);
    assert!((5.0..8.0).contains(&spoken), "{spoken} s");
    let log = events(&folder);
    let told =
        |kind: &str| log.iter().filter(|event| event["data"]["livekit"] == kind && event["data"]["identity"] == "ann").count();
    assert_eq!(["joined", "left", "muted", "unmuted"].map(told), [2, 1, 1, 1]);
}

#[test]
fn a_call_with_an_agent_is_measured_from_its_recording_and_its_agents_own_words_are_kept() {
    let server = LiveKitServer::start();
    let out = tempfile::tempdir().unwrap();
    let line_of =
        |text: &str, file: &str| json!({"text": text, "file": format!("{}/fixtures/speech/{file}", env!("CARGO_MANIFEST_DIR"))});
    let script = json!({
        "greeting": line_of("Hello.", "agent-greeting.wav"),
        "answers": [line_of("One.", "agent-answer-1.wav")],
        "heard": ["I am member 1234."],
    });
    let file = out.path().join("script.json");
    std::fs::write(&file, script.to_string()).unwrap();
    let mut worker = agent_worker(&server, "livekit_scripted_agent.py", "scripted", &[("AGENT_SCRIPT", path(&file))]);
    let mut recorder = recorder(&server, out.path(), &["--agent", "scripted"]);
    let mut ann = Peer::joined(&server, "call", "ann", json!({}));
    ann.tell("publish", json!({}));
    ann.tell("dispatch", json!({"room": "call", "agent_name": "scripted", "metadata": "{\"run_id\": 12, \"scenario_id\": 5}"}));
    let said = |text: &str| worker.event("said", |event| event["text"] == text);
    said("Hello.");
    ann.tell("play", json!({"file": format!("{}/fixtures/speech/caller-member.wav", env!("CARGO_MANIFEST_DIR"))}));
    said("One.");
    // The agent's own telling of it comes when it has been said.
    until("the agent's words in the recording", || {
        let log = std::fs::read_to_string(common::call_folder(out.path()).join("events.jsonl")).ok()?;
        log.contains("\"text\":\"One.\"").then_some(())
    });
    recorder.interrupt();
    let over = line(&recorder, "over");
    assert!(recorder.wait().success());
    worker.end();
    assert_eq!((&over["run_id"], &over["scenario_id"]), (&json!("12"), &json!("5")));
    let folder = folder(&over);
    let measured = run(&["measure", path(&folder), "--format", "json"]);
    let measures: Value = serde_json::from_slice(&measured.stdout).expect("JSON");
    let turns: Vec<_> = measures["turns"].as_array().unwrap().iter().map(|turn| turn["side"].as_str().unwrap()).collect();
    assert_eq!(turns, ["agent", "caller", "agent"]);
    assert!(measures["response_latency"]["p50"]["value"].as_f64().unwrap() > 300.0, "it waits for 0.3 s of silence");
    let log = events(&folder);
    let texts: Vec<_> = log.iter().filter(|event| event["event"] == "text").map(|event| event["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["Hello.", "One."], "{log:#?}");
    let states: Vec<_> = log.iter().filter_map(|event| event["data"]["to"].as_str()).collect();
    assert!(states.contains(&"speaking") && states.contains(&"listening"), "{states:?}");
}

#[test]
fn a_server_that_starts_anew_leaves_a_gap_and_the_recording_goes_on_in_its_folder() {
    let mut server = LiveKitServer::start();
    let out = tempfile::tempdir().unwrap();
    let mut ann = Peer::joined(&server, "anew", "ann", json!({}));
    let mut bot = Peer::joined(&server, "anew", "bot", json!({"kind": "agent", "record": path(out.path())}));
    ann.tell("dispatch", json!({"room": "anew", "agent_name": "any", "metadata": "{\"run_id\": 8}"}));
    let mut recorder = recorder(&server, out.path(), &["--room", "anew"]);
    let folder = folder(&line(&recorder, "began"));
    ann.tell("tone", json!({"hz": 440}));
    bot.tell("tone", json!({"hz": 700}));
    bot.tell("hear", json!({"identity": "ann", "seconds": 2}));
    until("the run's id", || (call_json(&folder)["run_id"] == "8").then_some(()));
    server.restart();
    bot.event("reconnected", |_| true);
    let log = || events_so_far(&folder);
    let told = |kind: &str, pick: &dyn Fn(&Value) -> bool| -> usize {
        log().iter().filter(|event| event["data"]["livekit"] == kind && pick(&event["data"])).count()
    };
    until("the recorder's return", || (told("reconnected", &|_| true) == 1).then_some(()));
    let back = |identity: &str| (told("subscribed", &|data| data["identity"] == identity) == 2).then_some(());
    until("the caller's track", || back("ann"));
    until("the agent's track", || back("bot"));
    let length = || std::fs::metadata(folder.join("agent.wav")).map_or(0, |file| file.len());
    let before = length();
    until("2 s more", || (length() > before + u64::from(RATE) * 4).then_some(()));
    recorder.interrupt();
    let over = line(&recorder, "over");
    assert!(recorder.wait().success());
    assert_eq!((&over["folder"], &over["run_id"]), (&json!(folder), &json!("8")));
    let info = call_json(&folder);
    assert_eq!(info["room"]["dispatches"][0]["metadata"]["run_id"], 8);
    let log = events(&folder);
    let gap = log.iter().find(|event| event["data"]["livekit"] == "reconnected").unwrap();
    let gap_ms = gap["data"]["gap_ms"].as_f64().unwrap();
    for (file, hz) in [("caller.wav", 440.0), ("agent.wav", 700.0)] {
        let heard = wav(&folder.join(file));
        let longest = gaps(&heard, RATE, hz, DBFS).into_iter().max().expect("the restart is a gap") as f64 * 20.0;
        assert!(longest > 0.5 * gap_ms.min(1_000.0), "{file}: {longest} ms");
        assert!(tone_seconds(&heard, RATE, hz, DBFS) > 3.0, "{file}: on both sides of the gap");
    }
}

/// The events of a recording that goes on, whose last line may not be whole.
fn events_so_far(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("events.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
