//! Clients through our own door: aiortc, Chromium on the door's page, and our own dial.

use std::path::Path;

use serde_json::{Value, json};
use trunkline::transport::webrtc::{AudioPlan, IceOptions, Peer};

use super::common::pipecat::pipecat_python;
use super::common::tone::{gaps, tone_file, tone_level, tone_seconds};
use super::common::{Running, call_folder, events, path, python, trunkline, until, wav};
use super::{AIORTC_DBFS, RATE, TONE_DBFS, call};

/// An agent that sends a tone of `hz` Hz from beginning to end, at -12 dBFS of full scale.
pub(super) fn tone_agent(hz: u32) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/tone_agent.py");
    format!("process:python3 {} {hz}", script.display())
}
/// Its level.
pub(super) const AGENT_DBFS: f64 = -15.0;

/// `trunkline serve` with the door in front of `to`: the door's address.
pub(super) fn serve(to: &str, out: &Path, more: &[&str]) -> (Running, String) {
    let arguments = ["serve", "--to", to, "--door", "pipecat-webrtc=127.0.0.1:0", "--out", path(out)];
    let running = Running::stderr_of(trunkline(&[&arguments[..], more].concat()));
    let address = running.door();
    (running, address)
}

/// What aiortc tells of a call through the door: its lines.
fn aiortc(door: &str, arguments: &[&str]) -> Vec<Value> {
    let url = format!("http://{door}/api/offer");
    let output = pipecat_python("webrtc_caller.py", &[&[url.as_str()], arguments].concat()).output().expect("Python starts");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let told: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(!told.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    told
}

fn told<'a>(lines: &'a [Value], what: &str) -> &'a Value {
    lines.iter().find(|line| line["told"] == what).unwrap_or_else(|| panic!("it tells {what}: {lines:#?}"))
}

/// The one call's folder, once it is finished.
pub(super) fn finished(out: &Path) -> std::path::PathBuf {
    until("the finished recording", || {
        let folder = std::fs::read_dir(out).ok()?.any(|entry| entry.is_ok_and(|entry| entry.path().join("labels.txt").exists()));
        folder.then(|| call_folder(out))
    })
}

#[test]
fn an_aiortc_client_calls_any_agent_and_both_hear_each_other() {
    let out = tempfile::tempdir().expect("a folder");
    let (_serve, door) = serve(&tone_agent(500), out.path(), &[]);
    let ready = json!({"label": "rtvi-ai", "type": "client-ready", "id": "ready-1", "data": {"version": "2.2.0"}}).to_string();
    let data = json!({"run_id": 77, "scenario_id": "s-1"}).to_string();
    let lines = aiortc(&door, &["--say", &ready, "--say", "ping: 1", "--data", &data, "--seconds", "4"]);
    let heard = told(&lines, "heard");
    let hz = heard["hz"].as_array().expect("a list");
    assert!(hz.len() >= 2 && hz.iter().all(|hz| *hz == 500.0), "the agent's tone: {heard}");
    let message = &told(&lines, "message")["message"];
    assert_eq!((&message["type"], &message["id"]), (&json!("bot-ready"), &json!("ready-1")));
    let folder = finished(out.path());
    let caller = wav(&folder.join("caller.wav"));
    let loud: Vec<usize> = (0..caller.len()).filter(|at| caller[*at].unsigned_abs() > 1000).collect();
    let (first, last) = (loud[0] + 9_600, loud[loud.len() - 1] - 9_600);
    assert!(last - first > 2 * RATE as usize, "{} samples of the caller", last - first);
    assert_eq!(gaps(&caller[first..last], RATE, 700.0, AIORTC_DBFS), Vec::<usize>::new());
    let level = tone_level(&caller[first..last], RATE, 700.0);
    assert!((level - AIORTC_DBFS).abs() < 1.0, "{level} dBFS");
    let call: Value = serde_json::from_slice(&std::fs::read(folder.join("call.json")).expect("a file")).expect("JSON");
    assert_eq!((&call["run_id"], &call["scenario_id"]), (&json!("77"), &json!("s-1")));
    assert_eq!((&call["end"]["by"], &call["end"]["reason"]), (&json!("caller"), &json!("hung_up")), "{call}");
}

#[test]
fn a_client_may_tell_its_candidates_later_and_offer_again() {
    for (again, anew) in [("renegotiate", false), ("restart", true)] {
        let out = tempfile::tempdir().expect("a folder");
        let (_serve, door) = serve(&tone_agent(500), out.path(), &[]);
        let lines = aiortc(&door, &["--late", "--again", again, "--seconds", "3"]);
        let answers: Vec<_> = lines.iter().filter(|line| line["told"] == "answer").collect();
        assert_eq!(answers.len(), 2, "{lines:#?}");
        assert_eq!(answers[0]["pc_id"], answers[1]["pc_id"], "the call keeps its name");
        let hz = told(&lines, "heard")["hz"].as_array().expect("a list").clone();
        assert!(hz.iter().filter(|hz| **hz == 500.0).count() >= 2, "{again}: {hz:?}");
        let folder = finished(out.path());
        let caller = wav(&folder.join("caller.wav"));
        let tail = &caller[caller.len() - 2 * RATE as usize..];
        let seconds = tone_seconds(tail, RATE, 700.0, AIORTC_DBFS);
        assert!(seconds > 1.0, "{again}: {seconds} s of the caller in the last two");
        let told = events(&folder).iter().any(|event| event["data"]["pipecat"] == "reconnecting");
        assert_eq!(told, anew);
    }
}

#[test]
fn an_agent_that_hangs_up_is_passed_on() {
    let out = tempfile::tempdir().expect("a folder");
    let (_serve, door) = serve("process:sleep 2", out.path(), &[]);
    let lines = aiortc(&door, &["--seconds", "20"]);
    assert_eq!(told(&lines, "closed")["told"], "closed");
    assert!(lines.iter().any(|line| line["message"]["message"]["type"] == "peerLeft"), "{lines:#?}");
}

/// The whole path within Trunkline: its own dial in front of its own door, with a session or without.
#[test]
fn our_own_dial_calls_through_our_own_door() {
    let out = tempfile::tempdir().expect("a folder");
    let (_serve, door) =
        serve("process:python3 -c 'import sys,shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)'", out.path(), &[]);
    for path in ["/api/offer", "/start"] {
        let (run, folder) =
            call(&format!("pipecat+http://{door}{path}"), &["Thank you, goodbye. <silence time=\"4s\"/> <endcall/>"], &[]);
        assert_eq!(run["end"]["reason"], "script_finished", "{run}");
        let agent = wav(&call_folder(&folder.path().join("out")).join("agent.wav"));
        let loud = agent.iter().filter(|sample| sample.unsigned_abs() > 1000).count();
        assert!(loud > 5_000, "the caller's voice comes back: {loud} loud samples");
    }
}

#[test]
fn a_browser_calls_any_agent_from_the_doors_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, microphone, shot) = (folder.path().join("out"), folder.path().join("voice.wav"), folder.path().join("page.png"));
    tone_file(&microphone, 700.0, 20.0, TONE_DBFS);
    let (_serve, door) = serve(&tone_agent(500), &out, &[]);
    let page = format!("http://{door}/");
    let arguments = [page.as_str(), path(&microphone), path(&shot), "2", "Good morning."];
    let output = python("call_page.py", &arguments).output().expect("Python starts");
    let seen = String::from_utf8_lossy(&output.stdout);
    let seen: Value = serde_json::from_str(seen.trim()).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    for line in ["connected", "the agent is ready", "you pressed 7", "you: Good morning.", "you hung up"] {
        assert!(seen["log"].as_array().expect("a list").contains(&json!(line)), "{line}: {seen}");
    }
    assert!(seen["states"].as_array().expect("a list").contains(&json!("connected")), "{seen}");
    let folder = finished(&out);
    let caller = wav(&folder.join("caller.wav"));
    let seconds = tone_seconds(&caller, RATE, 700.0, TONE_DBFS);
    assert!(seconds > 1.5, "{seconds} s of the browser's microphone");
    let agent = wav(&folder.join("agent.wav"));
    assert!(tone_seconds(&agent, 16_000, 500.0, AGENT_DBFS) > 1.5);
    let events = events(&folder);
    let pressed = events.iter().find(|event| event["event"] == "dtmf").unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&pressed["side"], &pressed["digit"]), (&json!("caller"), &json!("7")));
    assert!(std::fs::metadata(&shot).is_ok_and(|file| file.len() > 10_000), "a screenshot");
}

/// What a request to the door is answered with.
fn asked(door: &str, method: reqwest::Method, path: &str, body: &str, token: Option<&str>) -> (u16, Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    trunkline::transport::tls::install_crypto();
    runtime.block_on(async {
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().expect("a client");
        let mut request = http.request(method, format!("http://{door}{path}")).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.body(body.to_owned()).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default())
    })
}

#[test]
fn requests_that_make_no_sense_are_refused_in_words_and_touch_no_call() {
    let out = tempfile::tempdir().expect("a folder");
    let (_serve, door) = serve(&tone_agent(500), out.path(), &[]);
    let (post, patch) = (reqwest::Method::POST, reqwest::Method::PATCH);
    let offer = |sdp: &str| json!({"sdp": sdp, "type": "offer"}).to_string();
    let no_audio = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
                    a=mid:0\r\na=sctp-port:5000\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=setup:actpass\r\na=fingerprint:sha-256 \
                    00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n";
    for (method, path, body, status, problem) in [
        (&post, "/api/offer", "no json".to_owned(), 400, "JSON"),
        (&post, "/api/offer", json!({"type": "offer"}).to_string(), 422, "sdp"),
        (&post, "/api/offer", json!({"sdp": "", "type": "answer"}).to_string(), 400, "the type \"answer\" is not \"offer\""),
        (&post, "/api/offer", offer("v=0"), 400, "the far side's session description cannot be used"),
        (&post, "/api/offer", offer(&"v=0\r\n".repeat(1000)), 400, "the far side's session description cannot be used"),
        (&post, "/api/offer", offer(no_audio), 400, "the offer has no audio that goes both ways"),
        (&post, "/api/offer", offer(&"x".repeat(2 << 20)), 413, "length limit"),
        (&post, "/api/offer", json!({"sdp": "v=0", "type": "offer", "pc_id": "7"}).to_string(), 404, "no call has the pc_id \"7\""),
        (&patch, "/api/offer", json!({"pc_id": "7", "candidates": []}).to_string(), 404, "no call has the pc_id \"7\""),
        (&patch, "/api/offer", json!({"pc_id": "7"}).to_string(), 422, "candidates"),
        (&post, "/sessions/9/api/offer", offer("v=0"), 404, "no session has the id \"9\""),
        (&post, "/start", json!({"transport": "daily"}).to_string(), 400, "the transport \"daily\" is not here"),
    ] {
        let (answered, said) = asked(&door, method.clone(), path, &body, None);
        let detail = said["detail"].as_str().unwrap_or_default();
        assert!(answered == status && detail.contains(problem), "{path} {}: {answered} {said}", &body[..body.len().min(80)]);
    }
    // A client that is answered and never connects is no call: no agent is called for it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let never = runtime.block_on(async {
        let plan = AudioPlan { stream: "stream", track: "track", both_ways: true };
        Peer::new(&[], &IceOptions::default()).offer(Some(plan), &[]).expect("an offer").0
    });
    assert_eq!(asked(&door, post, "/api/offer", &offer(&never), None).0, 200);
    let heard = aiortc(&door, &["--seconds", "2"]);
    assert_eq!(told(&heard, "heard")["hz"][0], 500.0, "the door takes calls as before");
    finished(out.path());
}

#[test]
fn a_guarded_door_lets_nobody_in_without_its_token_and_takes_no_more_calls_than_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let (token, config, out) = (folder.path().join("token"), folder.path().join("trunkline.toml"), folder.path().join("out"));
    std::fs::write(&token, "let-me-in\n").expect("a file");
    std::fs::write(&config, format!("[doors.pipecat-webrtc]\ntoken_file = \"{}\"\nmax_calls = 1\n", token.display()))
        .expect("a file");
    let (_serve, door) = serve(&tone_agent(500), &out, &["--config", path(&config)]);
    for token in [None, Some("let-me-in!")] {
        let (status, said) = asked(&door, reqwest::Method::POST, "/start", "{}", token);
        assert_eq!((status, &said["detail"]), (401, &json!("the door's token is missing or wrong")));
    }
    assert_eq!(asked(&door, reqwest::Method::POST, "/start?token=let-me-in", "{}", None).0, 200);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| aiortc(&door, &["--token", "let-me-in", "--seconds", "6"]));
        until("the call", || std::fs::read_dir(&out).ok()?.flatten().any(|entry| entry.path().is_dir()).then_some(()));
        let second = aiortc(&door, &["--token", "let-me-in", "--seconds", "1"]);
        let refused = told(&second, "refused");
        assert_eq!((&refused["status"], &refused["detail"]), (&json!(503), &json!("all 1 calls are taken")));
        assert_eq!(told(&first.join().expect("the first call"), "heard")["hz"][0], 500.0);
    });
    let everywhere =
        trunkline(&["serve", "--to", "process:cat", "--door", "pipecat-webrtc=0.0.0.0:0", "--out", path(&out)]).output();
    let everywhere = everywhere.expect("trunkline starts");
    let said = String::from_utf8_lossy(&everywhere.stderr);
    assert!(everywhere.status.code() == Some(2) && said.contains("[doors.pipecat-webrtc]"), "{said}");
}
