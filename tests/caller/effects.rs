//! What the caller's line carries beside speech, measured on virtual time: levels, frequencies, losses, paces, and that the same
//! seed makes the same samples.

use crate::voice;

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use trunkline::call::{EffectKind, Leg, LegCommand, LegEvent};
use trunkline::caller::effects::{BED_DBFS, BEDS, SHOTS, at_speed, bed, shot};
use trunkline::caller::personality::Personalities;
use trunkline::caller::speech::{SpeechStore, TtsCommand};
use trunkline::caller::suite::Suite;
use trunkline::caller::{Patience, PreparedScript, ScriptedCaller};
use voice::{LINE, Played, RATE, dbfs, play, prepared, ready, speech, suite};

async fn play_alone(actions: &[&str], seconds: u64) -> Played {
    let store = SpeechStore::new(None, Path::new("unused"));
    let script = prepared("Test", actions, &store, Path::new("")).await;
    play(script.caller(Patience::default()), seconds, None).await
}

/// The share of a signal's power at a frequency (Goertzel).
fn share_at(samples: &[i16], hz: f64) -> f64 {
    let turn = std::f64::consts::TAU * hz / f64::from(RATE.hz());
    let (mut before, mut last, mut power) = (0.0, 0.0, 0.0);
    for sample in samples {
        let sample = f64::from(*sample);
        (before, last) = (last, sample + 2.0 * turn.cos() * last - before);
        power += sample * sample;
    }
    let at = last * last + before * before - 2.0 * turn.cos() * last * before;
    at * 2.0 / (samples.len() as f64 * power)
}

/// The period of a voice in samples: where its autocorrelation is largest between 80 and 300 Hz.
fn period(samples: &[i16]) -> usize {
    let like = |lag: usize| samples.iter().zip(&samples[lag..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    (53..200).max_by(|a, b| like(*a).total_cmp(&like(*b))).unwrap()
}

#[test]
fn every_background_has_the_level_that_it_tells_and_its_seed_makes_it() {
    for sound in BEDS {
        let (samples, effect) = bed(sound, 0.5, 7, RATE).unwrap();
        let EffectKind::BackgroundNoise { level_dbfs, .. } = effect.kind else { panic!("{effect:?}") };
        assert!((level_dbfs - (BED_DBFS - 6.02)).abs() < 0.01, "{sound}: {level_dbfs}");
        assert!((dbfs(&samples) - level_dbfs).abs() < 0.2, "{sound}: {:.2} dBFS", dbfs(&samples));
        assert_eq!(samples, bed(sound, 0.5, 7, RATE).unwrap().0, "{sound}: the same seed, the same samples");
        assert_ne!(samples, bed(sound, 0.5, 8, RATE).unwrap().0, "{sound}: another seed, another sound");
    }
    assert!(bed("coffee-shop", 0.0, 7, RATE).unwrap().0.iter().all(|sample| *sample == 0));
}

/// Backgrounds of noise and hums that are as loud at any time.
const STEADY: [&str; 7] =
    ["air-conditioner", "inside-car", "fan-buzz", "ship-humming", "vacuum-cleaner", "quiet-room", "standard-hiss"];

#[test]
fn a_background_neither_swells_nor_jumps_where_it_is_repeated() {
    for sound in STEADY {
        let samples = bed(sound, 0.5, 7, RATE).unwrap().0;
        let (first, rest) = samples.split_at(8000);
        let more = dbfs(first) - dbfs(rest);
        assert!(more.abs() < 1.0, "{sound}: {more:.2} dB at its beginning");
        let step = |pair: &[i16]| (i32::from(pair[0]) - i32::from(pair[1])).abs();
        let largest = samples.windows(2).map(step).max().unwrap();
        let over_the_end = step(&[samples[samples.len() - 1], samples[0]]);
        assert!(over_the_end <= largest, "{sound}: a step of {over_the_end}, and {largest} within");
    }
}

#[test]
fn a_name_that_is_no_sound_makes_none() {
    assert!(bed("beep", 0.5, 7, RATE).is_none());
    assert!(shot("coffee-shop", 0.5, None, 7, RATE).is_none());
}

#[test]
fn every_sound_that_is_made_once_has_the_level_that_it_tells_and_can_be_cut() {
    for sound in SHOTS {
        let (samples, effect) = shot(sound, 0.5, None, 7, RATE).unwrap();
        let EffectKind::Noise { level_dbfs, .. } = effect.kind else { panic!("{effect:?}") };
        let sounding: Vec<i16> = samples.iter().copied().filter(|sample| *sample != 0).collect();
        assert!((dbfs(&sounding) - level_dbfs).abs() < 0.6, "{sound}: {:.2} dBFS, not {level_dbfs}", dbfs(&sounding));
        let cut = shot(sound, 0.5, Some(Duration::from_millis(100)), 7, RATE).unwrap().0;
        assert_eq!(cut.len(), 1600, "{sound}: cut after 100 ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_background_lies_under_speech_and_silence_and_not_under_a_hold() {
    let action = format!(
        "<background_noise sound=\"standard-hiss\" volume=\"0.5\">{LINE} <silence time=\"2s\"/> <hold time=\"1s\"/> {LINE}</background_noise> <silence time=\"1s\"/>"
    );
    let played = play_alone(&[&action], 12).await;
    let words = speech("caller-tuesday").len();
    let spans: Vec<_> = played.effects().iter().map(|(_, from, to)| (*from, *to)).collect();
    let marks = played.marks();
    let [(from, pause), (again, end)] = spans[..] else { panic!("{spans:?}") };
    assert_eq!((from, marks[0]), (4800, (4800, 4800 + words)), "it begins with the words");
    assert!(pause - marks[0].1 - 2 * 16_000 < 320 && again == pause + 16_000, "off for the hold: {spans:?}");
    assert_eq!(again, marks[1].0);
    assert!(end - marks[1].1 < 320, "off after its span: {spans:?} {marks:?}");
    let under = &played.said[marks[0].1 + 320..pause];
    assert!((dbfs(under) - (BED_DBFS - 6.02)).abs() < 0.5, "{:.2} dBFS", dbfs(under));
    assert!(played.said[pause..again].iter().chain(&played.said[end..]).all(|sample| *sample == 0), "else silence");
    let spoken = dbfs(&speech("caller-tuesday"));
    assert!(dbfs(&played.said[marks[0].0..marks[0].1]) > spoken, "the words are there too");
}

#[tokio::test(start_paused = true)]
async fn a_beep_is_a_tone_of_1000_hz_as_long_as_it_says() {
    let played = play_alone(&["<noise sound=\"beep\" volume=\"0.5\" time=\"300\"/>"], 2).await;
    let (kind, from, to) = played.effects().remove(0);
    assert!(matches!(kind, EffectKind::Noise { sound, .. } if sound == "beep"));
    assert_eq!(to - from, 4800);
    assert!(share_at(&played.said[from..to], 1000.0) > 0.95, "{}", share_at(&played.said[from..to], 1000.0));
    assert!(played.said[..from].iter().chain(&played.said[to..]).all(|sample| *sample == 0));
    assert!(played.marks().is_empty(), "a beep is no speech");
}

#[tokio::test(start_paused = true)]
async fn a_voicemail_greets_whatever_the_agent_says_beeps_and_listens() {
    let actions = [&format!("<voicemail text=\"{LINE}\"/>")[..], "Thank you, goodbye."];
    let store = SpeechStore::new(None, Path::new("unused"));
    let script = prepared("Test", &actions, &store, Path::new("")).await;
    let agent = Some((6, speech("agent-answer-2")));
    let played = play(script.caller(Patience::default()), 14, agent).await;
    let (kind, from, to) = played.effects().remove(0);
    assert!(matches!(kind, EffectKind::VoicemailBeep { hz, .. } if hz == 640.0));
    assert_eq!(to - from, 16_000, "FreeSWITCH's: 640 Hz for a second");
    assert!(share_at(&played.said[from..to], 640.0) > 0.98);
    let marks = played.marks();
    assert_eq!(marks[0].1 - marks[0].0, speech("caller-tuesday").len());
    assert!(from - marks[0].1 < 320, "the beep follows the greeting");
    let spoken_to = 6 * 16_000 + speech("agent-answer-2").len();
    assert!(marks[1].0 > spoken_to, "the caller listens until the agent has spoken");
}

#[tokio::test(start_paused = true)]
async fn lost_frames_are_the_share_that_was_asked_for_and_all_are_counted() {
    let action = "<network_simulation packet_loss=\"20\"/> <background_noise sound=\"standard-hiss\" volume=\"1\"><hold time=\"20ms\"/> <silence time=\"59s\"/></background_noise> <network_simulation packet_loss=\"0\"/>";
    let played = play_alone(&[action], 62).await;
    let effects = played.effects();
    let (_, from, to) = *effects.iter().find(|(kind, ..)| matches!(kind, EffectKind::PacketLoss { .. })).unwrap();
    let heard = played.said[from..to].chunks(320).skip(1);
    let silent = heard.filter(|frame| frame.iter().all(|sample| *sample == 0)).count();
    let (frames, share) = ((to - from) as f64 / 320.0, 0.2);
    let spread = (frames * share * (1.0 - share)).sqrt();
    assert!((silent as f64 - frames * share).abs() < 4.0 * spread, "{silent} of {frames} frames");
    let told: u64 =
        played.events.iter().map(|(_, event)| if let LegEvent::Lost { frames, .. } = event { *frames } else { 0 }).sum();
    assert!(told.abs_diff(silent as u64) <= 1, "{told} are told of, {silent} are silent");
}

#[tokio::test(start_paused = true)]
async fn speed_changes_the_length_and_not_the_pitch() {
    let plain = speech("caller-tuesday");
    let played = play_alone(&[&format!("<speed ratio=\"0.8\"/> {LINE}")], 5).await;
    let (from, to) = played.marks()[0];
    assert_eq!(to - from, (plain.len() as f64 / 0.8).round() as usize, "the marks are of what is sent");
    assert_eq!(played.effects(), [(EffectKind::Speed { ratio: 0.8 }, from, to)]);
    assert_eq!(&played.said[from..to], &at_speed(&plain, RATE, 0.8)[..]);
    for ratio in [0.8, 1.2] {
        let changed = at_speed(&plain, RATE, ratio);
        assert!((dbfs(&changed) - dbfs(&plain)).abs() < 1.0, "{ratio}: {:.1}, not {:.1} dBFS", dbfs(&changed), dbfs(&plain));
    }
    // A voice's buzz of 125 Hz that gets louder and softer.
    let buzz = |n: usize| (f64::from((n % 128) as u32) / 128.0 - 0.5) * 8000.0 * (1.0 + (n as f64 / 1600.0).sin());
    let voice: Vec<i16> = (0..32_000).map(|n| buzz(n) as i16).collect();
    for ratio in [0.5, 0.8, 1.2, 2.0] {
        let changed = at_speed(&voice, RATE, ratio);
        assert_eq!(changed.len(), (32_000.0 / ratio).round() as usize);
        let found = period(&changed[2000..10_000]);
        assert!(found.abs_diff(128) <= 1, "at {ratio} the period is {found} samples");
    }
}

#[tokio::test(start_paused = true)]
async fn volume_multiplies_the_samples_and_stops_at_full_scale() {
    let plain = speech("caller-tuesday");
    let played = play_alone(&[&format!("<volume ratio=\"2\" text=\"{LINE}\"/> Friday at four, please.")], 6).await;
    let (from, to) = played.marks()[0];
    let doubled: Vec<i16> = plain.iter().map(|sample| (i32::from(*sample) * 2).clamp(-32_768, 32_767) as i16).collect();
    assert!(played.said[from..to] == doubled[..]);
    let (from, to) = played.marks()[1];
    assert!(played.said[from..to] == speech("caller-friday")[..], "its words only");
}

#[tokio::test(start_paused = true)]
async fn the_same_scenario_sounds_the_same_and_another_one_does_not() {
    let actions = [&format!(
        "<background_noise sound=\"busy-street\">{LINE}</background_noise> <noise sound=\"cough1\"/> <network_simulation packet_loss=\"30\"/> {LINE}"
    )[..]];
    let store = SpeechStore::new(None, Path::new("unused"));
    let mut said = Vec::new();
    for scenario in ["One", "One", "Two"] {
        let script = prepared(scenario, &actions, &store, Path::new("")).await;
        said.push(play(script.caller(Patience::default()), 8, None).await.said);
    }
    assert!(said[0] == said[1], "a run can be repeated");
    assert!(said[0] != said[2]);
}

/// A speech command that keeps what it was asked to say, and says something shipped.
fn keeping(folder: &Path) -> SpeechStore {
    let wav = format!("{}/fixtures/speech/caller-friday.wav", env!("CARGO_MANIFEST_DIR"));
    let log = folder.join("asked");
    let script = format!("printf \"%s\\n\" \"$1\" >> {} && cp {wav} \"$2\"", log.display());
    let command = format!("sh -c '{script}' say {{text}} {{out}}");
    SpeechStore::new(Some(TtsCommand::parse(&command).unwrap()), &folder.join("cache"))
}

#[tokio::test]
async fn what_is_spelled_is_spoken_letter_by_letter() {
    let folder = tempfile::tempdir().unwrap();
    let action = "My code is <spell>AB12</spell>, thanks.";
    prepared("Test", &[action], &keeping(folder.path()), Path::new("")).await;
    assert_eq!(std::fs::read_to_string(folder.path().join("asked")).unwrap(), "My code is A, B, 1, 2, thanks.\n");
}

#[tokio::test(start_paused = true)]
async fn a_recording_beside_the_suite_is_played_instead_of_speech() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("audio")).unwrap();
    let from = format!("{}/fixtures/speech/caller-which.wav", env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(from, folder.path().join("audio/menu-1.wav")).unwrap();
    let store = SpeechStore::new(None, Path::new("unused"));
    let script = prepared("Test", &["<audio id=\"menu-1\"/>"], &store, folder.path()).await;
    let played = play(script.caller(Patience::default()), 6, None).await;
    let (from, to) = played.marks()[0];
    assert!(played.said[from..to] == speech("caller-which")[..], "sample by sample");
    let suite = Suite::parse(&suite("Test", &["<audio id=\"menu-2\"/>"])).unwrap();
    let missing = PreparedScript::prepare(&suite.scenarios[0].script().unwrap(), "Test", &store, RATE, folder.path()).await;
    let told = missing.expect_err("it is not there").to_string();
    assert!(told.starts_with("condition 0: <audio id=\"menu-2\"/> plays ") && told.contains("audio/menu-2.wav: "), "{told}");
}

#[tokio::test(start_paused = true)]
async fn keys_are_pressed_one_by_one_in_their_place() {
    let played = play_alone(&[&format!("{LINE} <dtmf digits=\"1-2#\"/> {LINE}")], 6).await;
    let keys: Vec<_> = played
        .events
        .iter()
        .filter_map(|(at, event)| if let LegEvent::Dtmf(key) = event { Some((*at, *key)) } else { None })
        .collect();
    assert_eq!(keys.iter().map(|(_, key)| *key).collect::<String>(), "12#");
    assert!(keys.windows(2).all(|pair| pair[1].0 - pair[0].0 == 3200), "200 ms apart: {keys:?}");
    let marks = played.marks();
    assert!(marks[0].1 <= keys[0].0 && keys[2].0 + 3200 <= marks[1].0 + 320, "{marks:?} {keys:?}");
}

/// The frames that a leg has ready: let go, and given.
async fn frames(leg: &mut ScriptedCaller) -> (u64, u64) {
    let (mut paused, mut given) = (0, 0);
    for event in ready(leg).await {
        match event {
            LegEvent::Paused(samples) => paused += samples / 320,
            LegEvent::Audio(samples) => given += samples.len() as u64 / 320,
            _ => {}
        }
    }
    (paused, given)
}

#[tokio::test(start_paused = true)]
async fn a_background_that_is_late_is_let_go_and_speech_over_it_is_not() {
    let store = SpeechStore::new(None, Path::new("unused"));
    let action = format!("<background_noise sound=\"fan-buzz\"><silence time=\"1s\"/> {LINE}</background_noise>");
    let mut leg = prepared("Test", &[&action], &store, Path::new("")).await.caller(Patience::default());
    // The line settles for 300 ms, the background begins; then the machine sleeps for half a second, and again in the words.
    for (time, let_go) in [(400, 0), (500, 24), (700, 0), (500, 0)] {
        let (mut paused, mut given) = (0, 0);
        let steps = if time == 500 { 1 } else { time / 20 };
        for _ in 0..steps {
            tokio::time::advance(Duration::from_millis(time / steps)).await;
            let (more_paused, more_given) = frames(&mut leg).await;
            (paused, given) = (paused + more_paused, given + more_given);
        }
        assert_eq!(paused, let_go, "of {} frames", paused + given);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backchannel_that_is_late_is_said_whole() {
    let store = SpeechStore::new(None, Path::new("unused"));
    let yes = json!([{"id": 1, "name": "A", "backchannels": [{"at_ms": 600, "text": "Friday at four, please."}]}]);
    let personalities = Personalities::parse(&yes).unwrap();
    let script = prepared("Test", &["", LINE], &store, Path::new("")).await.cast(&personalities.all()[0]).await.unwrap();
    let mut leg = script.caller(Patience::default());
    let mut begun = None;
    for (number, heard) in speech("agent-answer-1").chunks(320).enumerate() {
        leg.command(LegCommand::Audio(heard));
        if ready(&mut leg).await.iter().any(|event| matches!(event, LegEvent::Backchannel { .. })) {
            begun = Some(number);
        }
        // The machine sleeps for half a second in the midst of it.
        if begun.is_some_and(|begun| number == begun + 10) {
            tokio::time::advance(Duration::from_millis(500)).await;
            let (paused, given) = frames(&mut leg).await;
            assert_eq!((paused, given), (0, 25));
            return;
        }
        tokio::time::advance(Duration::from_millis(20)).await;
    }
    panic!("it was not said: {begun:?}");
}
