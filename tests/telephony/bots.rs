//! Real Pipecat bots behind the serializers of providers, called by us as the provider.

use std::thread;

use serde_json::{Value, json};
use trunkline::audio::Rate;

use super::TONE_DBFS;
use super::oracle::pipecat;
use crate::common::tone::{gaps, tone_level, tone_seconds};
use crate::common::{Running, call_folder, events, path, python_caller, run, serve, suite, until, wav};

/// A bot, and its address for a provider's calls.
fn bot(provider: &str, mode: &[&str], form: &str) -> (Running, String) {
    let mut command = pipecat("pipecat_phone_agent.py");
    command.arg(provider).args(mode);
    let bot = Running::stdout_of(command);
    let port = bot.json("its port")["port"].as_u64().expect("a port");
    (bot, format!("{provider}+ws://127.0.0.1:{port}/ws{form}"))
}

/// A caller with a voice of 150 Hz goes through a CHIRP door to the bot, which answers with a tone and hangs up.
fn sound_goes_both_ways(provider: &str, form: &str, rate: Rate) {
    let out = tempfile::tempdir().expect("a folder");
    let (bot, address) = bot(provider, &["tone", "440"], form);
    let (_serve, door) = serve(&address, out.path(), "");
    let got = python_caller(&format!("ws://{door}/"), &["--mode", "talk-and-hold", "--seconds", "20"]);
    assert_eq!(got["close_code"], 1000, "{provider}: the bot's hang-up is passed on");
    let heard = bot.json("what the bot heard");
    let hz = heard["hz"].as_array().expect("a list");
    assert!(!hz.is_empty() && hz.iter().all(|hz| hz == 150.0), "{provider}: the caller's voice of 150 Hz: {heard}");
    let folder =
        until("the finished recording", || Some(call_folder(out.path())).filter(|folder| folder.join("labels.txt").exists()));
    let agent = wav(&folder.join("agent.wav"));
    let spoken: Vec<usize> = (0..agent.len()).filter(|at| agent[*at].unsigned_abs() > 100).collect();
    let (first, last) = (spoken[0], spoken[spoken.len() - 1]);
    let seconds = (last - first) as f64 / f64::from(rate.hz());
    assert!((seconds - 2.0).abs() < 0.02, "{provider}: two seconds of its tone: {seconds}");
    assert_eq!(gaps(&agent[first..last], rate.hz(), 440.0, TONE_DBFS), Vec::<usize>::new(), "{provider}: its tone, whole");
    assert!((tone_level(&agent[first..last], rate.hz(), 440.0) - TONE_DBFS).abs() < 1.0, "{provider}");
    let end = events(&folder).into_iter().find(|event| event["event"] == "ended").expect("an end");
    assert_eq!((&end["by"], &end["reason"]), (&json!("agent"), &json!("hung_up")), "{provider}");
}

#[test]
fn bots_behind_telnyx_and_vonage_hear_and_are_heard() {
    let telnyx = thread::spawn(|| sound_goes_both_ways("telnyx", "#PCMA", Rate::HZ_8000));
    let vonage = thread::spawn(|| sound_goes_both_ways("vonage", "", Rate::HZ_16000));
    [telnyx, vonage].into_iter().for_each(|call| call.join().expect("it went well"));
}

#[test]
fn bots_behind_plivo_and_exotel_hear_and_are_heard() {
    let plivo = thread::spawn(|| sound_goes_both_ways("plivo", "", Rate::HZ_8000));
    let exotel = thread::spawn(|| sound_goes_both_ways("exotel", "", Rate::HZ_8000));
    [plivo, exotel].into_iter().for_each(|call| call.join().expect("it went well"));
}

/// `trunkline call`: a scripted caller that presses keys, and what the bot's own runner finds out about the call.
fn keys_and_a_tone(provider: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let (bot, address) = bot(provider, &["tone", "440"], "");
    let lines = ["<dtmf digits=\"42#\"/> Thank you, goodbye. <silence time=\"5s\"/> <endcall/>"];
    let (suite, out) = (suite(folder.path(), &lines), folder.path().join("out"));
    let output = run(&["call", "--to", &address, "--suite", path(&suite), "--out", path(&out)]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let heard = bot.json("what the bot heard");
    assert_eq!(heard["digits"], "42#", "{provider}: {said}");
    assert!(heard["hz"].as_array().is_some_and(|hz| !hz.is_empty()), "{provider}: it hears the caller: {heard}");
    let agent = wav(&call_folder(&out).join("agent.wav"));
    let seconds = tone_seconds(&agent, 8000, 440.0, TONE_DBFS);
    assert!((seconds - 2.0).abs() < 0.1, "{provider}: {seconds} s of its tone: {said}");
    heard
}

#[test]
fn a_scripted_caller_presses_keys_for_bots_behind_twilio_and_genesys() {
    let genesys = thread::spawn(|| keys_and_a_tone("genesys"));
    let heard = keys_and_a_tone("twilio");
    assert_eq!(heard["call"]["transport"], "twilio");
    genesys.join().expect("it went well");
}

/// A whole pipeline behind the serializer: it greets, is interrupted, and says no more of it.
#[test]
fn a_caller_who_barges_in_stops_a_bot_behind_twilio() {
    let folder = tempfile::tempdir().expect("a folder");
    let (bot, address) = bot("twilio", &["scripted"], "");
    let over = "<interruption time=\"1.5s\"/>Thank you, goodbye. <silence time=\"2s\"/> <endcall/>";
    let (suite, out) = (suite(folder.path(), &["", over]), folder.path().join("out"));
    let output = run(&["call", "--to", &address, "--suite", path(&suite), "--out", path(&out), "--format", "json"]);
    let told = |what: &str| {
        let of = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|told| told["told"] == what);
        bot.wait_for(what, of)
    };
    assert!(
        told("interrupted")["after"].as_f64().is_some_and(|after| (1.0..3.5).contains(&after)),
        "in the middle of its greeting"
    );
    assert!(told("heard")["interrupted"].as_u64().is_some_and(|times| times >= 1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let barge_in = &report["runs"][0]["measures"]["barge_in"]["events"][0];
    assert_eq!((&barge_in["scripted"], &barge_in["yielded"]), (&json!(true), &json!(true)), "{report:#}");
}
