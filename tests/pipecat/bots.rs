//! Calls to a real Pipecat bot (`pipecat-ai` 1.14.0) behind Pipecat's own development runner: Silero VAD, its user turns, its services with local
//! parts, its transports.

use crate::common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use common::leg::event_or_tick;
use common::pipecat::{PipecatBot, pipecat_python};
use common::tone::{gaps, tone_level};
use common::{call_folder, events, path, suite, trunkline};
use serde_json::{Value, json};
use trunkline::call::{CallIds, Leg, LegCommand, LegEvent};
use trunkline::transport::{ConnectOptions, SetUp, WayOut};

/// What the first answer of the bot is, in the sentences in which it is spoken.
const FIRST_ANSWER: [&str; 3] = [
    "Of course.",
    "We have Monday at nine, Tuesday at eleven, Wednesday at two, and Friday at four.",
    "Which of them suits you best?",
];

/// A call to a bot: what trunkline said, and where it recorded.
struct Called {
    output: Output,
    report: Value,
    out: PathBuf,
    _folder: tempfile::TempDir,
}

impl Called {
    /// Calls `to` with these lines of the caller.
    fn to(to: &str, lines: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (suite, out) = (suite(folder.path(), lines), folder.path().join("out"));
        let mut command = trunkline(&["call", "--to", to, "--suite", path(&suite), "--out", path(&out), "--format", "json"]);
        let output = command.envs(environment.iter().copied()).output().expect("trunkline starts");
        let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Self { output, report, out, _folder: folder }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The one run of the report.
    fn run(&self) -> &Value {
        assert!(self.report["runs"][0].is_object(), "a report: {}", self.said());
        &self.report["runs"][0]
    }

    fn events(&self) -> Vec<Value> {
        events(&call_folder(&self.out))
    }
}

/// The values of `field` of the agent's events of this kind.
fn of_agent<'a>(events: &'a [Value], kind: &str, field: &str) -> Vec<&'a Value> {
    let wanted = |event: &&Value| event["side"] == "agent" && event["event"] == kind;
    events.iter().filter(wanted).map(|event| &event[field]).collect()
}

#[test]
fn a_bots_turns_words_and_functions_are_in_the_events_and_messages_and_keys_reach_it() {
    let bot = PipecatBot::start(&["scripted", "--function", "told"]);
    let goodbye = "Thank you, goodbye. <client_message t=\"order\" d='{\"n\": 1}'/> <dtmf digits=\"1-2#\"/> <silence time=\"1s\"/> <endcall/>";
    let called = Called::to(&bot.web_socket(), &["Good morning. When can I see a doctor this week?", goodbye], &[]);
    bot.told("gone");
    let heard = bot.told("heard");
    assert_eq!((&heard["keys"], &heard["rates"]), (&json!(["1", "2", "#"]), &json!([16000])), "{heard}");
    assert_eq!(heard["client_messages"], json!([{"t": "order", "d": {"n": 1}}]));
    assert_eq!(heard["interrupted"], 0, "nobody spoke over it: {heard}");

    let events = called.events();
    let words = of_agent(&events, "text", "text");
    assert_eq!(words[..3], FIRST_ANSWER, "each sentence once, as it was spoken: {words:?}");
    assert_eq!(of_agent(&events, "function_call", "name"), ["free_appointments"]);
    assert_eq!(of_agent(&events, "function_result", "result"), [&json!({"day": "Friday", "free": ["09:00", "11:00"]})]);
    let answer = of_agent(&events, "data", "data").into_iter().find(|data| data["rtvi"] == "server-response");
    assert_eq!(answer.map(|data| &data["d"]), Some(&json!({"heard": {"n": 1}})), "the bot answers the message");
    let marks: Vec<_> = events.iter().filter(|event| event["side"] == "agent" && event["source"] == "signalled").collect();
    let marks: Vec<_> = marks.iter().map(|mark| mark["event"].as_str().unwrap_or_default()).collect();
    assert!(marks.len() >= 2 && marks.chunks(2).all(|pair| pair[0] == "speech_started"), "starts and stops in turn: {marks:?}");

    let measures = &called.run()["measures"];
    assert_eq!(measures["barge_in"]["events"], json!([]), "an interruption frame at the start of a turn is no barge-in");
    assert_eq!(measures["barge_in"]["false_stops"]["value"], 0.0);
    let latency = measures["response_latency"]["answers"][0]["latency_ms"].as_f64().expect("an answer");
    assert!((200.0..5000.0).contains(&latency), "the bot waits for the caller's end: {latency} ms");
}

#[test]
fn a_caller_who_barges_in_stops_the_bot_and_the_recording_shows_it() {
    let bot = PipecatBot::start(&["scripted", "--greet"]);
    let over = "<interruption time=\"1.5s\"/>Thank you, goodbye. <silence time=\"2s\"/> <endcall/>";
    let called = Called::to(&bot.web_socket(), &["", over], &[]);
    let told = bot.told("interrupted");
    let after = told["after"].as_f64().expect("seconds");
    assert!((1.0..3.5).contains(&after), "it is stopped in the middle of its greeting of four seconds: {told}");
    assert!(bot.told("heard")["interrupted"].as_u64().is_some_and(|times| times >= 1));
    let measures = &called.run()["measures"];
    let barge_in = &measures["barge_in"]["events"][0];
    assert_eq!((&barge_in["scripted"], &barge_in["yielded"]), (&json!(true), &json!(true)), "{}", called.said());
    let stopped = barge_in["stopped_after_ms"].as_f64().expect("a time");
    assert!((50.0..2000.0).contains(&stopped), "its own detector takes its time: {stopped} ms");
    let events = called.events();
    let interrupted = of_agent(&events, "data", "data").into_iter().filter(|data| data["rtvi"] == "bot-interrupted").count();
    assert!(interrupted >= 1, "the bot tells of it");
}

#[test]
fn a_bot_on_a_host_that_is_too_busy_makes_the_run_void() {
    // Its loop is kept busy for 60 ms at a time: 40 ms of its audio take longer than that.
    let bot = PipecatBot::start(&["scripted", "--greet", "--busy", "60"]);
    let called = Called::to(&bot.web_socket(), &["", "Thank you, goodbye. <endcall/>"], &[]);
    let run = called.run();
    let kinds: Vec<_> = run["failures"].as_array().expect("a list").iter().map(|failure| &failure["kind"]).collect();
    assert!(kinds.contains(&&json!("agent_starved")), "{}", called.said());
    assert_eq!((&run["verdict"], called.output.status.code()), (&json!("void"), Some(3)));
    let rate = run["measures"]["agent"]["received_rate"]["value"].as_f64().expect("a rate");
    assert!((0.2..0.9).contains(&rate), "{rate} s of audio a second");
}

/// The answer of a runner's `POST /start`.
fn start(bot: &PipecatBot, body: &Value) -> Value {
    let mut stream = TcpStream::connect(bot.host()).expect("the runner listens");
    let body = body.to_string();
    let head = format!("POST /start HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nconnection: close\r\n", bot.host());
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

/// All that stands in the files below a folder.
fn contents(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let read = |file: &Path| String::from_utf8_lossy(&std::fs::read(file).expect("a file")).into_owned();
    entries.map(|path| if path.is_dir() { contents(&path) } else { read(&path) }).collect()
}

#[test]
fn a_runners_token_opens_one_call_and_is_written_nowhere() {
    let bot = PipecatBot::start(&["scripted", "--greet", "--slow-start", "1.5", "--ws-auth", "token"]);
    let token = start(&bot, &json!({"transport": "websocket"}))["token"].as_str().expect("a token").to_owned();
    let to = format!("{}?token={token}", bot.web_socket());
    let lines = ["", "Thank you, goodbye. <endcall/>"];
    let called = Called::to(&to, &lines, &[("RUST_LOG", "trace")]);
    let run = called.run();
    assert_eq!(run["end"]["reason"], "script_finished", "{run}");
    let ready = run["set_up"]["stages"].as_array().expect("stages").iter().find(|stage| stage["stage"] == "agent_ready");
    let ready = ready.and_then(|stage| stage["took_ms"].as_f64()).expect("the time until the bot is ready");
    assert!(ready > 1400.0, "a slow bot is waited for: {ready} ms");
    let again = Called::to(&to, &lines, &[]);
    let said = again.said() + &String::from_utf8_lossy(&again.output.stdout);
    let expected = format!("pipecat-ws://{}/ws-client?… refused the call with 403: the token in the address", bot.host());
    assert!(said.contains(&expected) && said.contains("used before"), "{said}");
    for written in [called.said(), contents(&called.out), said] {
        assert!(!written.contains(&token), "{written}");
    }
}

/// A leg to a bot.
async fn leg(to: &str) -> Box<dyn Leg> {
    let way: WayOut = to.parse().expect("a way out");
    way.connect(&ConnectOptions::default(), &CallIds::default(), &mut SetUp::default()).await.expect("a call")
}

/// Sends a tone of 700 Hz, 20 ms at a time, until `enough` events came.
async fn events_of(leg: &mut dyn Leg, mut enough: impl FnMut(&LegEvent) -> bool) -> Vec<LegEvent> {
    let (mut clock, mut seen, mut sent) = (tokio::time::interval(Duration::from_millis(20)), Vec::new(), 0_u64);
    loop {
        match event_or_tick(leg, &mut clock).await {
            Some(LegEvent::Hangup { detail, .. }) => panic!("the bot is gone: {detail}; it told {seen:?}"),
            Some(event) => {
                let done = enough(&event);
                seen.push(event);
                if done {
                    return seen;
                }
            }
            None => {
                let sample = |at: u64| 8000.0 * (std::f64::consts::TAU * 700.0 * at as f64 / 16_000.0).sin();
                let frame: Vec<i16> = (sent..sent + 320).map(|at| sample(at) as i16).collect();
                sent += 320;
                leg.command(LegCommand::Audio(&frame));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_answered_aloud_and_a_function_whose_name_is_not_told_is_data() {
    let bot = PipecatBot::start(&["scripted", "--function", "hidden"]);
    let mut leg = leg(&bot.web_socket()).await;
    leg.command(LegCommand::Text("Is there anything on Friday?"));
    let seen = events_of(&mut *leg, |event| matches!(event, LegEvent::Transcript(_))).await;
    assert_eq!(seen.last(), Some(&LegEvent::Transcript(FIRST_ANSWER[0].to_owned())));
    let hidden = |event: &LegEvent| matches!(event, LegEvent::Data(data) if data["rtvi"] == "llm-function-call-in-progress");
    assert!(seen.iter().any(hidden) && !seen.iter().any(|event| matches!(event, LegEvent::FunctionCall(_))), "{seen:?}");
    drop(leg);
    assert_eq!(bot.told("heard")["texts"], json!(["Is there anything on Friday?"]));
}

/// The tone of [`events_of`] comes back whole from a bot that sends back what it hears.
async fn echoes(to: &str) {
    let mut leg = leg(to).await;
    let mut heard = Vec::new();
    events_of(&mut *leg, |event| {
        if let LegEvent::Audio(samples) = event {
            heard.extend(samples.iter().copied());
        }
        heard.len() >= 3 * 16_000
    })
    .await;
    assert_eq!(gaps(&heard[16_000..], 16_000, 700.0, -15.3), Vec::<usize>::new());
    assert!((tone_level(&heard[16_000..], 16_000, 700.0) + 15.3).abs() < 1.0);
}

/// A bot without the runner, whose transport is the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_itself_the_server_is_called() {
    let bot = PipecatBot::start(&["echo", "--serve-itself"]);
    echoes(&format!("pipecat-ws://{}", bot.host())).await;
    let heard = bot.told("heard");
    assert_eq!(heard["messages"][0], "client-ready", "{heard}");
    assert!(heard["hz"].as_array().is_some_and(|hz| hz.contains(&json!(700.0))), "{heard}");
}

#[test]
fn a_bot_behind_tls_is_called_where_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("bot.pem"), folder.path().join("bot.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let arguments = ["scripted", "--greet", "--certificate", path(&certificate), "--key", path(&key)];
    let bot = PipecatBot::from_command(pipecat_python("pipecat_bot.py", &arguments));
    let to = format!("pipecat-wss://{}/ws-client", bot.host().replace("127.0.0.1", "localhost"));
    let lines = ["", "Thank you, goodbye. <endcall/>"];
    let called = Called::to(&to, &lines, &[("SSL_CERT_FILE", path(&certificate))]);
    assert_eq!(called.run()["end"]["reason"], "script_finished", "{}", called.said());
    let refused = Called::to(&to, &lines, &[]);
    assert!(refused.run()["end"]["detail"].as_str().is_some_and(|detail| detail.contains("certificate")), "{}", refused.report);
}
