//! Text in the rooms of a real livekit-server: runs of `livekit_chat` through the sandbox and calls of `livekit-chat://`. The far side is
//! a real AgentSession of livekit-agents in text mode, or LiveKit's Python client where what is to be seen is no agent's ordinary way.

mod common;

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::livekit::{LiveKitServer, Peer, agent_worker};
use common::sandbox::{http, sandbox_with};
use common::{Running, path, suite, trunkline, until};
use serde_json::{Value, json};
use trunkline::call::{CallIds, EndReason, Leg, LegCommand, LegEvent};
use trunkline::transport::livekit::{Entrance, RoomCall, Server, dial_chat};
use trunkline::transport::{ConnectOptions, Secret, SetUp, WayOut};

const KEY: &str = "livekit-key";
const GREETING: &str = "Hello, this is the front desk. How can I help?";
const ASKS: &str = "Certainly, may I have your member number?";
const BOOKED: &str = "Thank you, you are booked for Tuesday.";
/// What the caller writes to an agent that greets and then gives [`ASKS`] and [`BOOKED`].
const CALLER: [&str; 4] = ["", "I would like to book.", "It is 1234.", "Thank you, goodbye. <endcall/>"];

/// A worker whose agent writes by this script.
fn writer(server: &LiveKitServer, folder: &Path, name: &str, script: &Value) -> Peer {
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, script.to_string()).unwrap();
    agent_worker(server, "livekit_scripted_agent.py", name, &[("AGENT_SCRIPT", path(&file))])
}

fn front_desk() -> Value {
    json!({"greeting": {"text": GREETING}, "answers": [{"text": ASKS}, {"text": BOOKED, "call": {"member": "1234"}}, {"text": "Goodbye."}]})
}

fn sandbox(folder: &Path, lines: &[&str]) -> (Running, String) {
    let suite = suite(folder, lines);
    sandbox_with(folder, &["--suite", path(&suite)], |command| {
        command.env("CEKURA_API_KEY", KEY);
    })
}

/// A room of the tester's own with an agent in it that is told to write, and the caller's token; by LiveKit's own API client.
fn prepared(tester: &mut Peer, room: &str, agent: &str) -> String {
    tester.tell("create_room", json!({"room": room}));
    tester.tell(
        "dispatch",
        json!({"room": room, "agent_name": agent, "metadata": json!({"text_mode": true, "mark": room}).to_string()}),
    );
    let token = tester.tell("token", json!({"room": room, "identity": "testing-agent"}));
    token["token"].as_str().unwrap().to_owned()
}

/// Starts a livekit_chat run for each token, and waits for the result's end.
fn chat_runs(url: &str, server: &LiveKitServer, tokens: &[&String]) -> Value {
    let entry = |token: &&String| json!({"scenario": 1, "livekit_room_url": server.url(), "access_token": token, "publish_data_message": {"language": "en"}});
    let body = json!({"agent": 1, "scenarios": tokens.iter().map(entry).collect::<Vec<_>>()}).to_string();
    let path = "/test_framework/v1/scenarios/run_scenarios_livekit_chat/";
    let (status, started) = http("POST", url, path, Some(KEY), Some(&body));
    assert_eq!((status, &started["run_as_text"]), (200, &true.into()), "{started}");
    until("the result's end", || {
        let path = format!("/test_framework/v1/results/{}/", started["id"]);
        let (_, result) = http("GET", url, &path, Some(KEY), None);
        ["completed", "failed"].contains(&result["status"].as_str()?).then_some(result)
    })
}

fn runs(result: &Value) -> Vec<Value> {
    let mut runs: Vec<Value> = result["runs"].as_object().unwrap_or_else(|| panic!("{result:#}")).values().cloned().collect();
    runs.sort_by_key(|run| run["id"].as_u64());
    runs
}

/// Role and words of each line; of a function its data.
fn transcript(run: &Value) -> Vec<(String, String)> {
    let lines = run["transcript_object"].as_array().unwrap_or_else(|| panic!("{run:#}"));
    let words = |line: &Value| match line["content"].as_str() {
        Some(content) if !content.is_empty() => content.to_owned(),
        _ => line["data"]["name"].as_str().or(line["data"]["result"].as_str()).unwrap_or_default().to_owned(),
    };
    lines.iter().map(|line| (line["role"].as_str().unwrap().to_owned(), words(line))).collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_livekit_chat_run_is_written_to_its_end_and_tells_each_message_once() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let worker = writer(&server, folder.path(), "front-desk", &front_desk());
    let (_sandbox, url) = sandbox(folder.path(), &CALLER);
    let mut tester = Peer::new(&server);
    let token = prepared(&mut tester, "desk", "front-desk");
    let result = chat_runs(&url, &server, &[&token]);
    assert_eq!((&result["status"], &result["success_rate"]), (&"completed".into(), &json!(100.0)), "{result:#}");
    assert_eq!(result["run_type"], "Text");
    let run = &runs(&result)[0];
    let lines = [
        ("Main Agent", GREETING),
        ("Testing Agent", "I would like to book."),
        ("Main Agent", ASKS),
        ("Testing Agent", "It is 1234."),
        ("Function Call", "look_up_member"),
        ("Function Call Result", "Member 1234 is known."),
        ("Main Agent", BOOKED),
    ];
    // The agent writes and tells of its functions side by side: a call comes before its result, and texts come in their order.
    let told = transcript(run);
    let spoken = |told: &(&str, &str)| !told.0.starts_with("Function");
    let of = |told: &[(String, String)], spoken_only: bool| -> Vec<(String, String)> {
        told.iter().filter(|(role, words)| spoken(&(role, words)) == spoken_only).cloned().collect()
    };
    let expected = lines.map(|(role, words)| (role.to_owned(), words.to_owned()));
    let mut texts = of(&told, true);
    assert!(texts.pop().is_some_and(|(_, words)| words.starts_with("Thank you, goodbye.")), "{told:#?}");
    assert_eq!((texts, of(&told, false)), (of(&expected, true), of(&expected, false)), "{told:#?}");
    // What the agent itself says of it.
    for words in ["I would like to book.", "It is 1234.", "Thank you, goodbye."] {
        worker.event("read", |read| read["text"] == words);
    }
    worker.event("closed", |closed| closed["reason"] == "participant_disconnected");
    let tracks: Vec<_> = worker.told().into_iter().filter(|told| told["event"] == "track").collect();
    assert!(tracks.is_empty(), "no audio is published: {tracks:?}");
    let kept = walk(&folder.path().join("data"));
    assert!(kept.iter().all(|file| file.extension().is_none_or(|kind| kind != "wav")), "{kept:?}");
    let events = kept.iter().find(|file| file.ends_with("events.jsonl")).unwrap_or_else(|| panic!("{kept:?}"));
    let events = std::fs::read_to_string(events).unwrap();
    assert!(!events.contains(&token) && !result.to_string().contains(&token), "the token is shown nowhere");
}

#[test]
fn an_agent_that_leaves_or_deletes_its_room_in_mid_chat_ends_the_run_as_the_agents_doing() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let script = |how: &str| json!({"greeting": {"text": GREETING}, "answers": [{"text": ASKS, "ends": how}, {"text": ""}]});
    let _leaver = writer(&server, folder.path(), "leaver", &script("leaves"));
    let _deleter = writer(&server, folder.path(), "deleter", &script("deletes"));
    let (_sandbox, url) = sandbox(folder.path(), &CALLER);
    let mut tester = Peer::new(&server);
    let tokens = [prepared(&mut tester, "left", "leaver"), prepared(&mut tester, "deleted", "deleter")];
    let result = chat_runs(&url, &server, &tokens.iter().collect::<Vec<_>>());
    for (run, told) in runs(&result).iter().zip(["left the room", "was deleted"]) {
        assert_eq!((&run["status"], &run["success"]), (&"completed".into(), &false.into()), "{run:#}");
        assert_eq!(run["metadata"]["call_ended_reason"], "Main agent-ended-call", "{run:#}");
        assert!(run["error_message"].as_str().is_some_and(|error| error.contains(told)), "{told}: {run:#}");
        assert!(transcript(run).iter().any(|(_, words)| words == ASKS), "{run:#}");
    }
}

/// The one call of a command, with its exit code.
fn called(server: &LiveKitServer, to: &str, lines: &[&str], more: &[&str]) -> (Option<i32>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let (suite, out) = (suite(folder.path(), lines), folder.path().join("out"));
    let mut arguments = vec!["call", "--to", to, "--suite", path(&suite), "--out", path(&out), "--format", "json"];
    arguments.extend(more);
    let ran = trunkline(&arguments).envs(server.env()).output().unwrap();
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ran.stderr)));
    (ran.status.code(), report)
}

#[test]
fn a_room_is_made_for_a_chat_its_agent_is_told_to_write_and_the_room_is_gone_afterwards() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let worker = writer(&server, folder.path(), "front-desk", &front_desk());
    let (code, report) = called(&server, "livekit-chat://?agent=front-desk", &CALLER, &[]);
    let run = &report["runs"][0];
    assert_eq!((code, &run["verdict"]), (Some(0), &"passed".into()), "{report:#}");
    assert_eq!(run["measures"]["chat"]["agent_messages"]["value"], 3.0, "{run:#}");
    let stages: Vec<_> = run["set_up"]["stages"].as_array().unwrap().iter().map(|stage| stage["stage"].clone()).collect();
    assert_eq!(stages, ["room", "join", "dispatch", "agent_joined", "agent_ready"]);
    let job = worker.event("job", |_| true);
    let told: Value = serde_json::from_str(job["metadata"].as_str().unwrap()).unwrap();
    assert_eq!(told, json!({"scenario_id": "test", "text_mode": true}));
    let mut tester = Peer::new(&server);
    until("the room's end", || tester.tell("rooms", json!({}))["rooms"].as_array()?.is_empty().then_some(()));
}

#[test]
fn an_agent_that_reads_and_writes_nothing_is_silent_and_metadata_that_is_no_object_reaches_it() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let worker = writer(&server, folder.path(), "mute", &json!({"answers": [{"text": ""}]}));
    let lines = ["Hello?", "Goodbye. <endcall/>"];
    let (code, report) = called(&server, "livekit-chat://?agent=mute&metadata=plain", &lines, &["--patience-s", "2"]);
    let run = &report["runs"][0];
    assert_eq!((code, &run["end"]["reason"]), (Some(1), &"agent_silent".into()), "{report:#}");
    worker.event("read", |read| read["text"] == "Hello?");
    let job = worker.event("job", |_| true);
    let told: Value = serde_json::from_str(job["metadata"].as_str().unwrap()).unwrap();
    assert_eq!(told, json!({"metadata": "plain", "text_mode": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_greets_before_its_caller_has_come_is_told_of() {
    let server = LiveKitServer::start();
    let folder = tempfile::tempdir().unwrap();
    let worker = writer(
        &server,
        folder.path(),
        "hasty",
        &json!({"greeting": {"text": GREETING}, "hasty": true, "answers": [{"text": ASKS}]}),
    );
    let mut tester = Peer::new(&server);
    let token = prepared(&mut tester, "early", "hasty");
    let said = worker.event("said", |said| said["text"] == GREETING);
    // Clocks are compared by whole seconds.
    until("a second after it", || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        (now > said["at"].as_f64().unwrap() + 1.0).then_some(())
    });
    let entrance = Entrance::Given { url: server.url().parse().unwrap(), token: Secret::new(&token).unwrap() };
    let call = RoomCall { entrance, identity: String::new(), publish: None, relay_only: false, step_time: Duration::from_secs(30) };
    let leg = Driven::new(Box::new(dial_chat(&call, &mut SetUp::default()).await.unwrap()));
    let events = leg.events_until(|event| matches!(event, LegEvent::Fault { .. }));
    let Some(LegEvent::Fault { code, detail }) = events.last() else { panic!("{events:#?}") };
    assert!(code == "SAID_TO_NOBODY" && detail.contains(GREETING), "{events:#?}");
    leg.tell(Told::Text("Hello?"));
    let events = leg.events_until(|event| matches!(event, LegEvent::Text(_)));
    assert_eq!(texts(&events), [ASKS]);
}

fn api(server: &LiveKitServer) -> Server {
    Server::new(&server.url(), server.key(), Secret::new(server.secret()).unwrap()).unwrap()
}

async fn dialled(server: &LiveKitServer, way: &str, step_s: u64) -> Result<Box<dyn Leg>, String> {
    let way: WayOut = way.parse().unwrap();
    let options =
        ConnectOptions { livekit: Some(api(server)), dial_time: Duration::from_secs(step_s), ..ConnectOptions::default() };
    way.connect(&options, &CallIds::default(), &mut SetUp::default()).await.map_err(|error| error.to_string())
}

/// A leg that is driven by a task of its own: it can be told and listened to while others are waited for.
struct Driven {
    commands: tokio::sync::mpsc::UnboundedSender<Told>,
    events: std::sync::mpsc::Receiver<LegEvent>,
}

#[derive(Debug)]
enum Told {
    Text(&'static str),
    Hangup(EndReason),
}

impl Driven {
    fn new(mut leg: Box<dyn Leg>) -> Self {
        let (commands, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (tell, events) = std::sync::mpsc::channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = poll_fn(|cx| leg.poll_event(cx)) => {
                        let over = matches!(event, LegEvent::Hangup { .. });
                        if tell.send(event).is_err() || over {
                            break;
                        }
                    }
                    Some(told) = told.recv() => match told {
                        Told::Text(text) => leg.command(LegCommand::Text(text)),
                        Told::Hangup(reason) => leg.command(LegCommand::Hangup(reason)),
                    },
                }
            }
        });
        Self { commands, events }
    }

    fn tell(&self, told: Told) {
        self.commands.send(told).expect("the leg goes on");
    }

    /// The events up to one that `last` takes.
    fn events_until(&self, last: impl Fn(&LegEvent) -> bool) -> Vec<LegEvent> {
        let mut events = Vec::new();
        loop {
            let event =
                self.events.recv_timeout(common::PATIENCE).unwrap_or_else(|error| panic!("{error}; there were: {events:#?}"));
            let done = last(&event);
            events.push(event);
            if done {
                return events;
            }
        }
    }
}

fn texts(events: &[LegEvent]) -> Vec<&str> {
    events.iter().filter_map(|event| if let LegEvent::Text(text) = event { Some(text.as_str()) } else { None }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_segment_is_one_message_and_what_is_not_the_agents_is_none() {
    let server = LiveKitServer::start();
    let attributes = json!({"lk.agent.state": "speaking"});
    let mut agent =
        Peer::joined(&server, "segments", "agent", json!({"kind": "agent", "attributes": attributes, "topics": ["lk.chat"]}));
    let leg = Driven::new(dialled(&server, "livekit-chat://segments?identity=tester", 20).await.unwrap());
    leg.tell(Told::Text("Hello?"));
    let read = agent.event("text", |text| text["topic"] == "lk.chat");
    // An agent takes messages only of those whom it knows.
    let came = agent.event("participant_connected", |came| came["participant"] == "tester");
    assert!(came["at"].as_f64() < read["at"].as_f64(), "{came} {read}");
    assert_eq!((&read["participant"], &read["text"]), (&"tester".into(), &"Hello?".into()));
    let segment = |id: &str, is_final: &str| json!({"lk.segment_id": id, "lk.transcription_final": is_final});
    let mut says = |parts: Value, attributes: Value, more: Value| {
        let mut command = json!({"topic": "lk.transcription", "parts": parts, "attributes": attributes});
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        agent.tell("stream", command);
    };
    // What it takes us to have said, in our name.
    says(json!(["Hell"]), segment("SG_us", "false"), json!({"sender": "tester"}));
    says(json!(["Hello?"]), segment("SG_us", "true"), json!({"sender": "tester"}));
    // Streamed, closed as final (Python); streamed, closed as begun (Node.js); whole again and again; without attributes.
    says(json!(["I can ", "hear ", "you."]), segment("SG_1", "false"), json!({"closing": {"lk.transcription_final": "true"}}));
    says(json!(["One ", "moment."]), segment("SG_2", "false"), json!({}));
    says(json!(["Your num"]), segment("SG_3", "false"), json!({}));
    says(json!(["Your number, please?"]), segment("SG_3", "true"), json!({}));
    says(json!(["Plainly."]), json!({}), json!({}));
    // A last one that nothing follows, and one too late to take its place.
    says(json!(["Are you there?"]), segment("SG_4", "false"), json!({}));
    let events = leg.events_until(|event| *event == LegEvent::Text("Are you there?".to_owned()));
    let all = ["I can hear you.", "One moment.", "Your number, please?", "Plainly.", "Are you there?"];
    assert_eq!(texts(&events), all, "{events:#?}");
    agent.tell(
        "stream",
        json!({"topic": "lk.transcription", "parts": ["Are you still there?"], "attributes": segment("SG_4", "true")}),
    );
    agent.tell("text", json!({"topic": "lk.chat", "text": "In the wrong place."}));
    let events = leg.events_until(|event| matches!(event, LegEvent::Fault { .. }));
    assert_eq!(texts(&events), Vec::<&str>::new(), "{events:#?}");
    assert!(events.iter().any(|event| matches!(event, LegEvent::Note(data) if data["livekit"] == "segment_again")), "{events:#?}");
    let Some(LegEvent::Fault { code, .. }) = events.last() else { panic!("{events:#?}") };
    assert_eq!(code, "ANSWER_ON_LK_CHAT");
    // The last words reach the agent before we are gone.
    leg.tell(Told::Text("Goodbye."));
    leg.tell(Told::Hangup(EndReason::ScriptFinished));
    let events = leg.events_until(|event| matches!(event, LegEvent::Hangup { .. }));
    assert_eq!(events.last(), Some(&LegEvent::Hangup { reason: EndReason::ScriptFinished, detail: String::new() }), "{events:#?}");
    agent.event("text", |text| text["text"] == "Goodbye.");
    agent.event("participant_disconnected", |left| left["participant"] == "tester");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_come_or_never_reads_fails_the_set_up_by_its_step() {
    let server = LiveKitServer::start();
    let error = dialled(&server, "livekit-chat://?agent=nobody-there", 2).await.err().expect("nobody is there");
    assert!(error.contains("agent joined") && error.contains("nobody-there"), "{error}");
    let attributes = json!({"lk.agent.state": "initializing"});
    let _slow = Peer::joined(&server, "slow", "agent", json!({"kind": "agent", "attributes": attributes}));
    let error = dialled(&server, "livekit-chat://slow", 2).await.err().expect("it never reads");
    assert!(error.contains("agent ready: not within 2 s") && error.contains("initializing"), "{error}");
    // In a room that somebody else made: nobody is an agent; and one that is no agent by its kind, but writes.
    let mut human = Peer::joined(&server, "theirs", "human", json!({"topics": ["lk.chat"]}));
    let token = human.tell("token", json!({"room": "theirs", "identity": "tester"}))["token"].as_str().unwrap().to_owned();
    let entrance = Entrance::Given { url: server.url().parse().unwrap(), token: Secret::new(&token).unwrap() };
    let call = RoomCall { entrance, identity: String::new(), publish: None, relay_only: false, step_time: Duration::from_secs(2) };
    let error = dial_chat(&call, &mut SetUp::default()).await.err().expect("nobody is an agent").to_string();
    assert!(error.contains("nobody in the room is an agent, and nobody has written"), "{error}");
    let call = RoomCall { step_time: Duration::from_secs(30), ..call };
    let dialling = tokio::spawn(async move { dial_chat(&call, &mut SetUp::default()).await.map_err(|error| error.to_string()) });
    human.event("participant_connected", |event| event["participant"] == "tester");
    let leg = tokio::task::block_in_place(|| {
        // What is written before the dial's own connection stands is lost, as for every client.
        until("the chat", || {
            human.tell("text", json!({"topic": "lk.transcription", "text": "I am here."}));
            dialling.is_finished().then_some(())
        });
        tokio::runtime::Handle::current().block_on(dialling)
    })
    .unwrap()
    .unwrap();
    let leg = Driven::new(Box::new(leg));
    let events = leg.events_until(|event| matches!(event, LegEvent::Text(_)));
    assert_eq!(texts(&events), ["I am here."]);
    leg.tell(Told::Text("Good."));
    human.event("text", |text| text["text"] == "Good.");
    // The server tells of somebody who may not change its attributes and publishes nothing with delay: that is waited for.
    let mut agent = Peer::joined(
        &server,
        "there",
        "agent",
        json!({"kind": "agent", "attributes": {"lk.agent.state": "listening"}, "topics": ["lk.chat"]}),
    );
    let grants = json!({"can_update_own_metadata": false});
    let token =
        agent.tell("token", json!({"room": "there", "identity": "tester", "grants": grants}))["token"].as_str().unwrap().to_owned();
    let entrance = Entrance::Given { url: server.url().parse().unwrap(), token: Secret::new(&token).unwrap() };
    let call = RoomCall { entrance, identity: String::new(), publish: None, relay_only: false, step_time: Duration::from_secs(30) };
    let leg = Driven::new(Box::new(dial_chat(&call, &mut SetUp::default()).await.unwrap()));
    leg.tell(Told::Text("Hello?"));
    let read = agent.event("text", |text| text["text"] == "Hello?");
    let came = agent.event("participant_connected", |came| came["participant"] == "tester");
    assert!(came["at"].as_f64() < read["at"].as_f64(), "{came} {read}");
}

#[test]
fn a_chat_in_a_room_is_spelled_as_every_way_out_and_takes_a_script_in_writing_alone() {
    for way in ["livekit-chat://desk?agent=me", "livekit-chat+ws://127.0.0.1:7880/desk?agent=me", "livekit-chat://"] {
        let parsed: WayOut = way.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((parsed.to_string().as_str(), parsed.is_text_only()), (way, true));
    }
    for wrong in ["livekit-chat+http://host/desk", "livekit-chats://desk", "livekit-chat://desk?agnet=me"] {
        wrong.parse::<WayOut>().expect_err(wrong);
    }
    let folder = tempfile::tempdir().unwrap();
    let suite = suite(folder.path(), &["", "<dtmf digits=\"1\"/>"]);
    let refused = common::run(&["call", "--to", "livekit-chat://desk", "--suite", path(&suite), "--out", path(folder.path())]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("LiveKit room, text"), "{told}");
}
