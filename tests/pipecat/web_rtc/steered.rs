//! A bot's side that does on command what a pipeline does seldom: another offer, a line that is cut, a hang-up, nonsense.

use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use trunkline::call::{EndReason, LegEvent};
use trunkline::transport::ConnectOptions;
use trunkline::transport::pipecat::IceServers;

use super::common::PATIENCE;
use super::common::coturn::{Coturn, PASSWORD, USER};
use super::common::pipecat::pipecat_python;
use super::common::tone::{gaps, tone_level, tone_seconds};
use super::{AIORTC_DBFS, Caller, RATE};

/// tests/interop/webrtc_bot.py, ended with its test.
pub struct SteeredBot {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<Value>,
    port: u64,
}

impl SteeredBot {
    pub fn start() -> Self {
        let mut command = pipecat_python("webrtc_bot.py", &[]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
        let (commands, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = std::io::BufRead::lines(std::io::BufReader::new(stdout)).map_while(Result::ok);
            for told in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                if sender.send(told).is_err() {
                    return;
                }
            }
        });
        let mut bot = Self { child, commands, lines, port: 0 };
        bot.port = bot.told("port")["port"].as_u64().expect("a port");
        bot
    }

    /// Its address with this path.
    pub fn at(&self, path: &str) -> String {
        format!("pipecat+http://127.0.0.1:{}{path}", self.port)
    }

    pub fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it is told");
    }

    /// Waits for what it tells; what it told before is skipped.
    pub fn told(&self, what: &str) -> Value {
        loop {
            let told = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the bot does not tell: {what}"));
            if told["told"] == what {
                return told;
            }
        }
    }

    /// What it has told by now, and nobody has asked for.
    fn all_told(&self) -> Vec<Value> {
        self.lines.try_iter().collect()
    }
}

impl Drop for SteeredBot {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A bot and its caller, who hear each other.
async fn in_a_call() -> (SteeredBot, Caller) {
    let bot = SteeredBot::start();
    let mut caller = Caller::call(&bot.at("/api/offer"), &ConnectOptions::default()).await;
    caller.until("half a second", |caller| caller.heard.len() > RATE as usize / 2).await;
    (bot, caller)
}

fn lost(event: &LegEvent) -> bool {
    matches!(event, LegEvent::Fault { code, .. } if code == "PIPECAT_RECONNECTING")
}

fn reconnected(event: &LegEvent) -> bool {
    matches!(event, LegEvent::Note(data) if data["pipecat"] == "reconnected")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_may_ask_for_another_offer_in_mid_call() {
    let mut bot = SteeredBot::start();
    let mut caller = Caller::call(&bot.at("/api/offer"), &ConnectOptions::default()).await;
    caller.until("a second", |caller| caller.heard.len() > RATE as usize).await;
    assert_eq!((&bot.told("offer")["again"], &bot.told("track")["enabled"]), (&json!(false), &json!(true)));
    bot.tell("renegotiate");
    let before = caller.heard.len();
    caller.until("two seconds more", |caller| caller.heard.len() > before + 2 * RATE as usize).await;
    let offer = bot.told("offer");
    assert_eq!((&offer["again"], &offer["restart"]), (&json!(true), &json!(false)));
    assert_eq!(
        gaps(&caller.heard[RATE as usize / 2..], RATE, 440.0, AIORTC_DBFS),
        Vec::<usize>::new(),
        "the bot is heard throughout"
    );
    caller.hang_up().await;
    assert!(!caller.was_told(|event| matches!(event, LegEvent::Fault { .. })), "{:#?}", caller.events);
    bot.told("closed");
    bot.tell("heard");
    let heard = bot.told("heard");
    let hz = heard["hz"].as_array().expect("a list");
    assert!(hz.len() >= 2 && hz.iter().all(|hz| *hz == 700.0), "the caller is heard throughout: {heard}");
}

/// The bot's side goes on; only what is between them is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_is_offered_anew_and_the_call_goes_on() {
    let (mut bot, mut caller) = in_a_call().await;
    bot.told("offer");
    bot.tell("cut");
    caller.until("another connection", |caller| caller.was_told(reconnected)).await;
    assert!(caller.was_told(lost), "the loss is told");
    let offer = bot.told("offer");
    assert_eq!((&offer["again"], &offer["restart"]), (&json!(true), &json!(true)));
    let before = caller.heard.len();
    caller.until("two seconds more", |caller| caller.heard.len() > before + 2 * RATE as usize).await;
    let seconds = tone_seconds(&caller.heard[before..], RATE, 440.0, AIORTC_DBFS);
    assert!(seconds > 1.0, "{seconds} s of the bot's tone on the other connection");
    caller.hang_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_mended_in_time_needs_no_other() {
    let (mut bot, mut caller) = in_a_call().await;
    bot.told("offer");
    bot.tell("cut");
    caller.until("the loss", |caller| caller.was_told(lost)).await;
    bot.tell("mend");
    caller.until("the same connection", |caller| caller.was_told(reconnected)).await;
    assert!(bot.all_told().iter().all(|told| told["told"] != "offer"), "nothing was offered again");
    let before = caller.heard.len();
    caller.until("a second more", |caller| caller.heard.len() > before + RATE as usize).await;
    let level = tone_level(&caller.heard[caller.heard.len() - RATE as usize / 2..], RATE, 440.0);
    assert!((level - AIORTC_DBFS).abs() < 1.0, "{level} dBFS");
    caller.hang_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_leaves_hangs_up() {
    let (mut bot, mut caller) = in_a_call().await;
    bot.tell("leave");
    caller.until("the end", |caller| caller.ended().is_some()).await;
    assert_eq!(caller.ended(), Some((EndReason::HungUp, "")));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_make_no_sense_are_told_of_and_the_hundredth_ends_the_call() {
    let mut bot = SteeredBot::start();
    let mut caller = Caller::call(&bot.at("/api/offer"), &ConnectOptions::default()).await;
    let nonsense = ["no json", "{\"no\": \"type\"}", "{\"type\": \"signalling\", \"message\": {\"type\": \"dance\"}}", "[]"];
    nonsense.iter().for_each(|message| bot.tell(&format!("send {message}")));
    let fault = |event: &&LegEvent| matches!(event, LegEvent::Fault { .. });
    caller.until("the faults", |caller| caller.events.iter().filter(fault).count() == nonsense.len()).await;
    let told = format!("{:?}", caller.events);
    for problem in ["is not JSON", "has no \\\"type\\\"", "is no signalling"] {
        assert!(told.contains(problem), "{problem}: {told}");
    }
    (0..96).for_each(|_| bot.tell("send x"));
    caller.until("the end", |caller| caller.ended().is_some()).await;
    assert_eq!(caller.ended(), Some((EndReason::ProtocolError, "100 messages broke the protocol")));
}

/// With a server that relays, and no other way: the bot is told of nothing but the relay.
#[tokio::test(flavor = "multi_thread")]
async fn media_goes_over_a_turn_server_where_nothing_else_may_be_used() {
    let (turn, mut bot) = (Coturn::start(&[]), SteeredBot::start());
    let server = json!([{"urls": [format!("turn:{}?transport=udp", turn.address)], "username": USER, "credential": PASSWORD}]);
    let options =
        ConnectOptions { pipecat_ice: IceServers::parse(&server.to_string()).expect("a server"), ..ConnectOptions::default() };
    let mut caller = Caller::call(&bot.at("/api/offer?relay=only"), &options).await;
    caller.until("a second", |caller| caller.heard.len() > RATE as usize).await;
    caller.hang_up().await;
    assert_eq!(bot.told("offer")["candidates"], json!([]), "none of our own addresses is told");
    let trickled = bot.told("trickled")["candidates"].to_string();
    assert!(trickled.contains("typ relay") && !trickled.contains("typ host"), "{trickled}");
    bot.told("closed");
    bot.tell("heard");
    let heard = bot.told("heard");
    assert!(
        heard["hz"].as_array().is_some_and(|hz| hz.contains(&json!(700.0))) || heard["seconds"].as_f64() > Some(0.5),
        "{heard}"
    );
    turn.wait_for_line(&["lifetime=0"]);
}
