//! Measuring: how good the onsets are, what a call's numbers are where they are known, and that anyone can recompute them.

use crate::common;

use std::path::Path;
use std::time::Duration;

use common::{built_in_agent, path, python, run, suite};
use serde_json::Value;
use trunkline::audio::{Rate, read_wav};
use trunkline::call::{CallEnd, CallIds, CallTime, EndReason, Event, LoggedEvent, MarkSource, SampleIndex, Side, Tape};
use trunkline::measure::truth::{NOISES, invented_on_silent_lines, row};
use trunkline::measure::{Known, Measures, measure};
use trunkline::record::{CallInfo, PartyInfo, Recorder};

fn shipped(names: &[&str]) -> Vec<Vec<i16>> {
    let read = |name: &&str| {
        let file = format!("{}/fixtures/speech/{name}.wav", env!("CARGO_MANIFEST_DIR"));
        read_wav(std::fs::File::open(file).unwrap(), Rate::HZ_16000).unwrap()
    };
    names.iter().map(read).collect()
}

#[test]
fn onsets_are_within_10_ms_at_20_db_and_better() {
    let folder = format!("{}/fixtures/speech", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = files.filter_map(|file| file.file_name()?.to_str()?.strip_suffix(".wav").map(str::to_owned)).collect();
    names.sort();
    let recordings = shipped(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for speech in [None, Some(&recordings[..])] {
        for noise in NOISES {
            for snr_db in [30.0, 20.0] {
                let row = row(speech, noise, snr_db, 40, 7);
                assert!(row.p95_ms <= 10.0 && row.misses == 0 && row.invented == 0, "{row:?}");
            }
        }
    }
}

#[test]
fn no_onset_is_invented_on_60_silent_noisy_lines() {
    assert_eq!(invented_on_silent_lines(60, 11), 0);
}

/// A call whose every sample and event is known.
struct Made {
    recorder: Recorder,
    folder: tempfile::TempDir,
    interrupting: bool,
}

impl Made {
    fn new(caller: Rate, agent: Rate) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let party = |rate| PartyInfo { rate: Some(rate), via: "a test".to_owned() };
        let ids = CallIds { call_id: "made".to_owned(), ..CallIds::default() };
        let info = CallInfo::new(ids, party(caller), party(agent));
        Self { recorder: Recorder::begin(folder.path(), info).unwrap(), folder, interrupting: false }
    }

    /// `side` says `samples` from `at_ms` on; a caller's marks are its script's.
    fn says(&mut self, side: Side, rate: Rate, at_ms: u64, samples: &[i16]) {
        let from = at_ms * u64::from(rate.hz()) / 1000;
        self.recorder.audio(CallTime::after(Duration::from_millis(at_ms)), side, SampleIndex::new(from), samples);
        if side == Side::Caller {
            let interruption = std::mem::take(&mut self.interrupting).then_some(2);
            self.event(at_ms, side, Event::SpeechStarted { source: MarkSource::Script, sample: from, interruption });
            let sample = from + samples.len() as u64;
            self.event(at_ms, side, Event::SpeechStopped { source: MarkSource::Script, sample, interrupted: false });
        }
    }

    /// The caller says `samples` over the agent, as its script wants it.
    fn interrupts(&mut self, at_ms: u64, samples: &[i16]) {
        self.interrupting = true;
        self.says(Side::Caller, Rate::HZ_16000, at_ms, samples);
    }

    fn event(&mut self, at_ms: u64, side: Side, event: Event) {
        let logged = LoggedEvent { at_ms: at_ms as f64, side: Some(side), event };
        self.recorder.event(CallTime::after(Duration::from_millis(at_ms)), &logged);
    }

    fn measured(self, length_ms: u64) -> Measures {
        let end = CallEnd { by: Some(Side::Caller), reason: EndReason::ScriptFinished, detail: String::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.recorder.finish(CallTime::after(Duration::from_millis(length_ms)), end)).unwrap();
        measure(self.folder.path()).unwrap()
    }
}

/// The pauses of 200 ms and more within a clean recording, by its samples alone, in ms.
fn pauses(samples: &[i16]) -> f64 {
    let loud: Vec<usize> = (0..samples.len()).filter(|at| samples[*at].unsigned_abs() >= 20).collect();
    loud.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 16.0).filter(|pause| *pause >= 200.0).sum()
}

fn near(value: Option<f64>, truth: f64, by: f64) {
    assert!(value.is_some_and(|value| (value - truth).abs() <= by), "{value:?}, the truth is {truth}");
}

#[test]
fn a_calls_numbers_are_what_was_made() {
    for agent_rate in [Rate::HZ_16000, Rate::HZ_48000] {
        let [hello, answer, question, bye] =
            shipped(&["agent-greeting", "agent-answer-2", "caller-which", "caller-goodbye"]).try_into().unwrap();
        let at_its_rate = |samples: &[i16]| trunkline::audio::resample(samples, 16_000, agent_rate);
        let ms = |samples: &[i16]| samples.len() as f64 / 16.0;
        let mut made = Made::new(Rate::HZ_16000, agent_rate);
        made.says(Side::Agent, agent_rate, 1000, &at_its_rate(&hello));
        made.says(Side::Caller, Rate::HZ_16000, 6000, &question);
        let asked = 6000.0 + ms(&question);
        let answered = asked.round() as u64 + 640;
        made.says(Side::Agent, agent_rate, answered, &at_its_rate(&answer));
        made.event(9000, Side::Agent, Event::Late { frames: 3, worst_ms: 90.0 });
        made.event(9000, Side::Agent, Event::Lost { frames: 5, concealed: 4 });
        made.event(9000, Side::Caller, Event::NotRead { frames: 2 });
        made.says(Side::Caller, Rate::HZ_16000, 14_000, &bye);
        let found = made.measured(17_000);
        near(found.duration.value, 17_000.0, 0.1);
        near(found.first_agent_audio.value, 1000.0, 3.0);
        assert_eq!(found.response_latency.answers.len(), 1, "{:?}", found.response_latency);
        near(found.response_latency.p50.value, answered as f64 - asked, 3.0);
        assert_eq!(found.response_latency.answers[0].known, Known::Script);
        let sides: Vec<_> = found.turns.iter().map(|turn| turn.side).collect();
        assert_eq!(sides, [Side::Agent, Side::Caller, Side::Agent, Side::Caller]);
        near(found.caller.talk_ratio.value, (ms(&question) + ms(&bye)) / 17_000.0, 0.001);
        // Of the agent, whose script nobody has, pauses of 200 ms and more within its sentences are no speech.
        near(found.agent.talk_ratio.value, (ms(&hello) + ms(&answer) - pauses(&hello) - pauses(&answer)) / 17_000.0, 0.003);
        let dead = 14_000.0 - (answered as f64 + ms(&answer));
        near(found.dead_air.value, dead, 6.0);
        near(found.overlap.value, 0.0, 0.0);
        let peak = bye.iter().chain(&question).map(|s| s.unsigned_abs()).max().unwrap();
        near(found.caller.peak.value, 20.0 * (f64::from(peak) / 32_768.0).log10(), 0.001);
        let counted =
            [&found.agent.frames_late, &found.agent.frames_lost, &found.agent.frames_concealed, &found.caller.frames_not_read];
        assert_eq!(counted.map(|figure| figure.value), [Some(3.0), Some(5.0), Some(4.0), Some(2.0)]);
        let all = serde_json::to_value(&found).unwrap();
        every_number_says_how(&all);
    }
}

/// Whatever has a `value` has a unit, a method and an error.
fn every_number_says_how(json: &Value) {
    if json.get("value").is_some() {
        for key in ["unit", "method", "error"] {
            assert!(json[key].as_str().is_some_and(|text| !text.is_empty()), "{json}");
        }
    }
    let inner: Vec<&Value> =
        json.as_object().map_or_else(|| json.as_array().into_iter().flatten().collect(), |o| o.values().collect());
    inner.into_iter().for_each(every_number_says_how);
}

#[test]
fn a_barge_in_is_measured_from_the_callers_onset_to_what_the_listener_hears() {
    let [list, cut_in] = shipped(&["agent-answer-1", "caller-only-friday"]).try_into().unwrap();
    let heard = 2500 * 16;
    for (heard, yielded) in [(heard, true), (list.len(), false)] {
        let mut made = Made::new(Rate::HZ_16000, Rate::HZ_16000);
        made.says(Side::Agent, Rate::HZ_16000, 1000, &list[..heard]);
        made.interrupts(3300, &cut_in);
        if yielded {
            made.event(3500, Side::Agent, Event::Discarded { discarded_ms: 1800.0, sample: 16_000 + heard as u64 });
        }
        let found = made.measured(14_000);
        let [barge_in] = &found.barge_in.events[..] else { panic!("{:?}", found.barge_in) };
        assert_eq!((barge_in.yielded, barge_in.scripted), (yielded, true));
        near(Some(barge_in.caller_onset_ms), 3300.0, 0.1);
        let (spoken_to, caller_to) = (1000.0 + heard as f64 / 16.0, 3300.0 + cut_in.len() as f64 / 16.0);
        if yielded {
            near(Some(barge_in.stopped_after_ms), spoken_to - 3300.0, 6.0);
        } else {
            // Its pauses count as long as the caller speaks; after that it has the line to itself.
            assert!((caller_to - 3300.0..=spoken_to - 3300.0).contains(&barge_in.stopped_after_ms), "{barge_in:?}");
        }
        near(Some(barge_in.discarded_ms), if yielded { 1800.0 } else { 0.0 }, 0.1);
        near(found.barge_in.false_stops.value, 0.0, 0.0);
    }
    let mut made = Made::new(Rate::HZ_16000, Rate::HZ_16000);
    made.says(Side::Agent, Rate::HZ_16000, 1000, &list[..heard]);
    made.event(3500, Side::Agent, Event::Discarded { discarded_ms: 1800.0, sample: 16_000 + heard as u64 });
    near(made.measured(6000).barge_in.false_stops.value, 1.0, 0.0);
}

#[test]
fn clipping_and_level_are_those_of_the_samples() {
    let mut made = Made::new(Rate::HZ_16000, Rate::HZ_16000);
    let tone = |gain: f64| -> Vec<i16> {
        let value = |n: usize| (gain * (n as f64 * std::f64::consts::TAU * 1000.0 / 16_000.0).sin()).clamp(-32_768.0, 32_767.0);
        (0..16_000).map(|n| value(n) as i16).collect()
    };
    made.says(Side::Caller, Rate::HZ_16000, 1000, &tone(32_767.0));
    made.says(Side::Agent, Rate::HZ_16000, 3000, &tone(100_000.0));
    let found = made.measured(6000);
    near(found.caller.level.value, -3.01, 0.05);
    near(found.caller.clipped.value, 0.0, 0.0);
    let clipped = tone(100_000.0).iter().filter(|s| s.unsigned_abs() >= 32_767).count();
    near(found.agent.clipped.value, clipped as f64, clipped as f64 * 0.01);
    near(found.agent.peak.value, 0.0, 0.001);
}

#[test]
fn a_folder_that_is_not_a_calls_or_is_damaged_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |folder: &Path| {
        let output = run(&["measure", path(folder)]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(folder.path()).contains("call.json"));
    let made = Made::new(Rate::HZ_16000, Rate::HZ_16000);
    let call = made.folder.path().to_owned();
    std::fs::write(call.join("call.json"), "{\"version\": 1}").unwrap();
    assert!(refused(&call).contains("call.json: not a call.json"));
    let made = Made::new(Rate::HZ_16000, Rate::HZ_16000);
    let call = made.folder.path().to_owned();
    std::fs::write(
        call.join("events.jsonl"),
        "{\"at_ms\":0,\"event\":\"script_done\"}\nnonsense\n{\"at_ms\":1,\"event\":\"script_done\"}\n",
    )
    .unwrap();
    assert!(refused(&call).contains("events.jsonl: line 2 is not an event"));
    std::fs::write(call.join("events.jsonl"), "").unwrap();
    std::fs::write(call.join("agent.wav"), "RIFFnonsense").unwrap();
    assert!(refused(&call).contains("agent.wav"));
}

#[test]
fn an_independent_program_finds_the_same_turns_and_latencies_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let lines = ["", "I would like to book an appointment, please.", "Thank you, goodbye. <endcall/>"];
    let (suite, out) = (suite(folder.path(), &lines), folder.path().join("out"));
    let output = run(&["call", "--to", &agent, "--suite", path(&suite), "--out", path(&out), "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ours = &report["runs"][0]["measures"];
    let call = common::call_folder(&out);
    let output = python("recompute.py", &[path(&call)]).output().unwrap();
    let theirs: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let numbers = |json: &Value, key: &str, part: &str| -> Vec<f64> {
        json[key].as_array().unwrap().iter().map(|turn| turn[part].as_f64().unwrap()).collect()
    };
    let (turns, recomputed) = (numbers(ours, "turns", "start_ms"), numbers(&theirs, "turns", "start_ms"));
    assert_eq!(turns.len(), recomputed.len(), "{ours:#}\n{theirs:#}");
    for (ours, theirs) in turns.iter().zip(&recomputed) {
        assert!((ours - theirs).abs() <= 10.0, "a turn at {ours} ms, recomputed {theirs}");
    }
    let latencies = numbers(&ours["response_latency"], "answers", "latency_ms");
    let recomputed: Vec<f64> = theirs["latencies_ms"].as_array().unwrap().iter().map(|ms| ms.as_f64().unwrap()).collect();
    assert_eq!(latencies.len(), 1);
    assert_eq!(recomputed.len(), 1);
    assert!((latencies[0] - recomputed[0]).abs() <= 10.0, "{latencies:?}, recomputed {recomputed:?}");
}
