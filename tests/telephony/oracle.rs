//! Pipecat's own serializers (`pipecat-ai` 1.14.0) read what we send as the provider, and write what we read.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trunkline::audio::{from_s16le, to_s16le};
use trunkline::transport::telephony_ws::{Format, Incoming, Outgoing, Provider, Role};

use super::messages::{call, fixture_format};
use super::{assert_alike, audio_of, fixture, shown, tone, understood};

/// Python with Pipecat in it.
pub fn pipecat(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/pyenv-pipecat/bin/python");
    assert!(python.exists(), "Pipecat is missing: run scripts/python-env (scripts/test does)");
    let mut command = Command::new(python);
    command.arg(root.join("tests/interop").join(script));
    command
}

struct Oracle {
    child: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Self {
        let mut command = pipecat("pipecat_serializers.py");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python starts");
        let (asked, answers) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, asked, answers: BufReader::new(answers) }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.asked, "{question}").expect("it reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no answer to {question}: {line}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn base64_of(samples: &[i16]) -> String {
    STANDARD.encode(to_s16le(samples))
}

fn samples_of(told: &Value) -> Vec<i16> {
    from_s16le(&STANDARD.decode(told.as_str().expect("audio")).expect("base64"))
}

/// The forms that Pipecat's serializer of this provider has too.
fn forms(provider: Provider) -> impl Iterator<Item = Format> {
    provider.formats().iter().copied().filter(move |format| provider != Provider::Plivo || *format == Format::PCMU)
}

#[test]
fn pipecat_understands_what_we_send_and_we_what_it_sends() {
    let mut oracle = Oracle::start();
    for provider in Provider::ALL {
        for format in forms(provider) {
            let name = provider.name();
            let mut ours = provider.dialect(Role::Provider, format);
            let mut messages = Vec::new();
            ours.write(Outgoing::Begin(&call()), &mut messages);
            let begin: Vec<Value> = messages.drain(..).map(|message| shown(&message)).collect();
            let question = json!({"dialect": name, "format": format.to_string(), "read": begin});
            let opened = oracle.ask(&question)["answers"].as_array().cloned().expect("a list");
            understood(&mut *ours, &opened);

            let frame = format.rate.frame_len();
            let sent = tone(format.rate.hz(), 0, 5 * frame);
            sent.chunks(frame).for_each(|frame| ours.write(Outgoing::Audio(frame), &mut messages));
            "0123456789*#".chars().for_each(|digit| ours.write(Outgoing::Dtmf(digit), &mut messages));
            ours.write(Outgoing::Played("{}"), &mut messages);
            ours.write(Outgoing::Stop, &mut messages);
            let all: Vec<Value> = begin.iter().cloned().chain(messages.iter().map(shown)).collect();
            let heard = oracle.ask(&json!({"dialect": name, "format": format.to_string(), "read": all}));
            assert_alike(format, &samples_of(&heard["audio"]), &sent);
            assert_eq!(heard["digits"], json!("0123456789*#".chars().collect::<Vec<_>>()), "{name}");
            match provider {
                Provider::Vonage => {}
                Provider::Genesys => {
                    let kinds: Vec<_> = heard["answers"].as_array().expect("a list").iter().map(|answer| &answer["type"]).collect();
                    assert_eq!(kinds, ["opened", "closed"]);
                }
                _ => {
                    assert_eq!(heard["detected"], name, "its runner knows the provider by our start");
                    assert!(!heard["call"]["stream_id"].as_str().unwrap_or_default().is_empty(), "{heard}");
                }
            }
            if provider == Provider::Twilio {
                assert_eq!(heard["call"]["body"], json!({"run_id": "77", "scenario_id": "5"}));
            }

            let said = tone(format.rate.hz(), 0, 7 * frame);
            let (first, second) = said.split_at(4 * frame);
            let write = json!([{"audio": base64_of(first)}, {"audio": base64_of(second)}, "interruption", "end"]);
            let told = oracle.ask(&json!({"dialect": name, "format": format.to_string(), "after": begin, "write": write}));
            let mut ours = provider.dialect(Role::Provider, format);
            ours.write(Outgoing::Begin(&call()), &mut messages);
            let written = [&told["answers"], &told["messages"]].map(|list| list.as_array().cloned().expect("a list")).concat();
            let told = understood(&mut *ours, &written);
            assert_alike(format, &audio_of(&told), &said);
            assert_eq!(
                told.iter().filter(|told| **told == Incoming::Clear).count(),
                1,
                "{name}: its interruption is a clear: {told:?}"
            );
        }
    }
}

#[test]
fn the_bots_fixtures_are_what_pipecat_writes() {
    let mut oracle = Oracle::start();
    for provider in Provider::ALL {
        let format = fixture_format(provider);
        let (hz, frame) = (format.rate.hz(), format.rate.frame_len());
        let last = |message: &Value| message["event"] == "stop" || message["type"] == "close";
        let after: Vec<Value> = fixture(provider, "from-provider.json").into_iter().filter(|message| !last(message)).collect();
        let (first, second) = (base64_of(&tone(hz, 0, 2 * frame)), base64_of(&tone(hz, 2 * frame, frame)));
        let write = json!([{"audio": first}, {"audio": second}, "interruption", "end"]);
        let told = oracle.ask(&json!({"dialect": provider.name(), "format": format.to_string(), "after": after, "write": write}));
        let written = [&told["answers"], &told["messages"]].map(|list| list.as_array().cloned().expect("a list")).concat();
        assert_eq!(Value::from(written), Value::from(fixture(provider, "from-bot.json")), "{provider:?}");
    }
}
