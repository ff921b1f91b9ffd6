//! Recordings: what survives a kill, what a repair makes of it, what becomes of a full disk and of a long track.

use crate::common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use common::{Running, built_in_agent, call_folder, events, path, python, run, suite, trunkline, until, wav};
use proptest::prelude::*;
use serde_json::Value;
use trunkline::audio::Rate;
use trunkline::call::{CallEnd, CallIds, CallTime, EndReason, Event, LoggedEvent, SampleIndex, Side, Tape};
use trunkline::record::{CallInfo, PartyInfo, Recorder, repair_file, repair_folder};

fn info(caller: Rate, agent: Rate) -> CallInfo {
    let party = |rate| PartyInfo { rate: Some(rate), via: "a test".to_owned() };
    CallInfo::new(CallIds { call_id: "test".to_owned(), ..CallIds::default() }, party(caller), party(agent))
}

fn hung_up() -> CallEnd {
    CallEnd { by: Some(Side::Caller), reason: EndReason::HungUp, detail: String::new() }
}

fn ms(ms: u64) -> CallTime {
    CallTime::after(Duration::from_millis(ms))
}

/// What any reader says of a file: hound, sox and Python's `wave` must agree. Gives channels, rate and frames.
fn read_by_all(file: &Path) -> (u16, u32, u64) {
    let reader = hound::WavReader::open(file).unwrap_or_else(|error| panic!("hound: {}: {error}", file.display()));
    let (spec, frames) = (reader.spec(), u64::from(reader.duration()));
    let read: Vec<_> = reader.into_samples::<i16>().collect();
    assert!(read.iter().all(Result::is_ok), "hound reads {} to its end", file.display());
    let soxi = |flag: &str| -> u64 {
        let output = Command::new("soxi").args([flag, path(file)]).output().expect("sox is there: scripts/setup test installs it");
        assert!(output.status.success(), "soxi: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    };
    assert_eq!((soxi("-c"), soxi("-r"), soxi("-s")), (u64::from(spec.channels), u64::from(spec.sample_rate), frames));
    let output = python("read_wav.py", &[path(file)]).output().unwrap();
    assert!(output.status.success(), "wave: {}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told[path(file)], serde_json::json!([spec.channels, spec.sample_rate, frames]));
    (spec.channels, spec.sample_rate, frames)
}

/// A call of the scripted caller to an echo, killed `after` its recording began; gives its folder and when it was killed.
fn killed_call(folder: &Path, after: Duration) -> (PathBuf, DateTime<Utc>) {
    let (_agent, agent) = built_in_agent("echo");
    let (suite, out) =
        (suite(folder, &["Good morning. When can I see a doctor this week?", "Friday at four, please."]), folder.join("out"));
    let mut call = Running::stderr_of(trunkline(&["call", "--to", &agent, "--suite", path(&suite), "--out", path(&out)]));
    let recording = until("the recording's first bytes", || {
        let call = fs::read_dir(&out).ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.is_dir())?;
        (fs::metadata(call.join("caller.wav")).ok()?.len() > 44).then_some(call)
    });
    let begun = Instant::now();
    until("the moment of the kill", || (begun.elapsed() >= after).then_some(()));
    let at = Utc::now();
    call.kill_9();
    (recording, at)
}

#[test]
fn a_kill_at_any_moment_loses_at_most_200_ms_and_one_command_gives_all_files() {
    for after in [0, 130, 470, 1010, 2340] {
        let folder = tempfile::tempdir().unwrap();
        let (call, killed_at) = killed_call(folder.path(), Duration::from_millis(after));
        let started: DateTime<Utc> = events(&call)[0]["wall"].as_str().unwrap().parse().unwrap();
        let lived = (killed_at - started).num_milliseconds();
        let (.., frames) = read_by_all(&call.join("caller.wav"));
        let lost = lived - frames as i64 / 16;
        // The caller's audio is let go up to 20 ms ahead of its moment.
        assert!((-40..=200).contains(&lost), "killed after {lived} ms, {} ms are in the file", frames / 16);
        read_by_all(&call.join("agent.wav"));
        assert!(!call.join("stereo.wav").exists(), "the call was killed, not ended");
        let output = run(&["record", "repair", path(&call)]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(wav(&call.join("caller.wav")).len() as u64, frames, "what the header told of was all there was");
        let (channels, rate, both) = read_by_all(&call.join("stereo.wav"));
        assert_eq!((channels, rate), (2, 16_000));
        let stereo = wav(&call.join("stereo.wav"));
        let (caller, agent) = (wav(&call.join("caller.wav")), wav(&call.join("agent.wav")));
        assert_eq!(both as usize, caller.len().max(agent.len()));
        assert!(stereo.chunks(2).zip(&caller).all(|(both, left)| both[0] == *left), "left is the caller, sample by sample");
        assert!(stereo.chunks(2).zip(&agent).all(|(both, right)| both[1] == *right), "right is the agent, sample by sample");
        let info: Value = serde_json::from_slice(&fs::read(call.join("call.json")).unwrap()).unwrap();
        assert_eq!(info["repaired"], true);
        let told: DateTime<Utc> = info["started_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(told, started, "sample 0 keeps its wall time");
        assert!(call.join("labels.txt").exists());
        let measured = run(&["measure", path(&call), "--format", "json"]);
        let measured: Value = serde_json::from_slice(&measured.stdout).unwrap();
        assert!(measured["notes"][0].as_str().unwrap().contains("not recorded to its end"), "{}", measured["notes"]);
    }
}

#[test]
fn a_header_that_was_never_written_is_made_from_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (call, _) = killed_call(folder.path(), Duration::from_millis(700));
    let file = call.join("caller.wav");
    let whole = wav(&file);
    let mut bytes = fs::read(&file).unwrap();
    bytes[..44].fill(0);
    bytes.push(7); // half a sample
    fs::write(&file, &bytes).unwrap();
    let unknown = run(&["record", "repair", path(&file)]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("give --rate"));
    assert!(run(&["record", "repair", path(&call)]).status.success(), "a call's folder knows its rates");
    assert_eq!(wav(&file), whole);
    // A header that tells of nothing, and one that tells of more than there is.
    for told in [0_u32, 1 << 30] {
        let mut bytes = fs::read(&file).unwrap();
        bytes[40..44].copy_from_slice(&told.to_le_bytes());
        fs::write(&file, &bytes).unwrap();
        assert!(run(&["record", "repair", path(&file)]).status.success());
        assert_eq!(wav(&file), whole);
    }
}

#[test]
fn what_is_no_recording_is_refused_by_name_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letter.wav");
    fs::write(&file, b"Dear clinic, this is no audio, whatever its name may say.").unwrap();
    let output = run(&["record", "repair", path(&file)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("letter.wav: not a WAV file"));
    assert!(fs::read(&file).unwrap().starts_with(b"Dear clinic"));
    for missing in ["nowhere", "nowhere.wav"] {
        let output = run(&["record", "repair", path(&folder.path().join(missing))]);
        assert_eq!(output.status.code(), Some(2), "{missing}");
    }
}

proptest! {
    /// Whatever a file holds: no panic, and a file that is taken can be read by anyone.
    #[test]
    fn repair_takes_any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), keep in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("any.wav");
        if keep && bytes.len() > 44 {
            let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
            let mut whole = std::io::Cursor::new(Vec::new());
            hound::WavWriter::new(&mut whole, spec).unwrap().finalize().unwrap();
            bytes[..44].copy_from_slice(whole.get_ref());
        }
        fs::write(&file, &bytes).unwrap();
        match repair_file(&file, Some(Rate::HZ_16000)) {
            Ok(mended) => {
                let reader = hound::WavReader::open(&file).unwrap();
                prop_assert_eq!(u64::from(reader.duration()), mended.samples);
            }
            Err(_) => prop_assert_eq!(fs::read(&file).unwrap(), bytes),
        }
    }
}

#[tokio::test]
async fn a_track_that_outgrows_a_part_goes_on_in_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let call = folder.path().join("call");
    // 10 kB a part: 5,000 samples.
    let mut recorder = Recorder::begin_with_parts(&call, info(Rate::HZ_16000, Rate::HZ_16000), 10_000).unwrap();
    let truth: Vec<i16> = (0..16_000).map(|n| (n % 30_000) as i16 + 1).collect();
    for (frame, samples) in truth.chunks(320).enumerate() {
        let at = SampleIndex::new(frame as u64 * 320);
        recorder.audio(ms(frame as u64 * 20), Side::Caller, at, samples);
    }
    let told = recorder.finish(ms(1000), hung_up()).await.unwrap();
    let parts: Vec<_> =
        told.caller.as_ref().unwrap().parts.iter().map(|part| (part.file.as_str(), part.first_sample, part.samples)).collect();
    assert_eq!(
        parts,
        [("caller.wav", 0, 5000), ("caller.2.wav", 5000, 5000), ("caller.3.wav", 10_000, 5000), ("caller.4.wav", 15_000, 1000)]
    );
    let together: Vec<i16> = told.caller.as_ref().unwrap().parts.iter().flat_map(|part| wav(&call.join(&part.file))).collect();
    assert_eq!(together, truth);
    let listed: CallInfo = serde_json::from_slice(&fs::read(call.join("call.json")).unwrap()).unwrap();
    assert_eq!(listed, told);
    let stereo: Vec<i16> = listed.stereo.unwrap().parts.iter().flat_map(|part| wav(&call.join(&part.file))).collect();
    assert!(stereo.chunks(2).map(|both| both[0]).eq(truth.iter().copied()), "the stereo parts go on where one ends");
    // A repair finds the parts again, whatever their headers say.
    for part in ["caller.2.wav", "caller.4.wav"] {
        let mut bytes = fs::read(call.join(part)).unwrap();
        bytes[..44].fill(0);
        fs::write(call.join(part), bytes).unwrap();
    }
    let (repaired, mended) = repair_folder(&call).unwrap();
    assert_eq!((repaired.caller, mended.len()), (told.caller, 8));
    let measured = trunkline::measure::measure(&call).unwrap();
    assert_eq!(measured.duration.value, Some(1000.0));
}

#[tokio::test]
async fn gaps_are_silence_of_their_length_and_what_comes_twice_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::begin(folder.path(), info(Rate::HZ_16000, Rate::HZ_48000)).unwrap();
    recorder.audio(ms(0), Side::Caller, SampleIndex::new(100), &[5; 320]);
    recorder.audio(ms(700), Side::Caller, SampleIndex::new(8000), &[6; 320]);
    recorder.audio(ms(710), Side::Caller, SampleIndex::new(8100), &[7; 320]);
    let event =
        LoggedEvent { at_ms: 1.0, side: Some(Side::Agent), event: Event::Log { line: "tab\there \"quoted\" ü".to_owned() } };
    recorder.event(ms(720), &event);
    let told = recorder.finish(ms(1000), hung_up()).await.unwrap();
    let caller = wav(&folder.path().join("caller.wav"));
    let mut truth = vec![0; 16_000];
    truth[100..420].fill(5);
    truth[8000..8320].fill(6);
    truth[8320..8420].fill(7);
    assert_eq!(caller, truth);
    assert_eq!(wav(&folder.path().join("agent.wav")), vec![0; 48_000], "a side that never spoke is silent to the end");
    assert_eq!(told.stereo.unwrap().samples, 48_000);
    assert_eq!(events(folder.path())[0]["line"], "tab\there \"quoted\" ü");
}

#[test]
fn a_folder_that_cannot_be_written_is_one_clear_error_before_any_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let out = file.join("runs");
    for command in [&["call", "--to", "chirp://127.0.0.1:1/"][..], &["serve", "--to", "chirp://127.0.0.1:1/"], &["demo"]] {
        let mut arguments = command.to_vec();
        arguments.extend(["--out", path(&out)]);
        let output = run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
        assert!(said.contains("cannot write into the folder") && said.contains("file/runs") && said.lines().count() <= 2, "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_full_disk_in_mid_call_ends_the_recording_and_not_the_call() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, agent) = built_in_agent("scripted");
    let (suite, out) = (suite(folder.path(), &["", "Thank you, goodbye. <endcall/>"]), folder.path().join("out"));
    // The kernel lets no file grow beyond 80 blocks of 512 bytes, 1.3 s of audio: as when a disk is full, a write fails.
    let script = r#"trap '' XFSZ; ulimit -f 80; exec "$@""#;
    let output = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_trunkline"), "call", "--to", &agent, "--suite", path(&suite)])
        .args(["--out", path(&out), "--format", "json"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    let run = &report["runs"][0];
    assert_eq!((output.status.code(), &run["verdict"]), (Some(3), &"void".into()), "{report}");
    assert_eq!(run["end"]["reason"], "script_finished", "the call went on to its end");
    assert_eq!(run["failures"][0]["kind"], "recording_failed");
    assert!(run["failures"][0]["detail"].as_str().unwrap().contains(".wav: File too large"), "{}", run["failures"]);
    assert_eq!(said.matches("the recording has ended, the call goes on").count(), 1, "{said}");
    let (.., frames) = read_by_all(&call_folder(&out).join("caller.wav"));
    assert!(frames > 16_000, "what was recorded before is there: {frames} samples");
}
