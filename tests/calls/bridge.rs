//! The bridge on virtual time: what is heard, what is recorded, what an interruption throws away.

use crate::common::random;

use std::time::Duration;

use proptest::prelude::*;
use random::Random;
use trunkline::audio::Rate;
use trunkline::call::{
    Abilities, Bridge, CallTime, EndReason, Event, LegCommand, LegEvent, LoggedEvent, Mark, MarkSource, Outlet, Party, SampleIndex,
    Side,
};

const MS: Duration = Duration::from_millis(1);

/// Keeps all that comes out of a bridge.
#[derive(Default)]
struct Kept {
    /// What each side's track holds, by place.
    caller: Vec<(u64, Vec<i16>)>,
    agent: Vec<(u64, Vec<i16>)>,
    /// Audio given to each leg, in samples, and when it was.
    to_caller: Vec<(CallTime, usize)>,
    to_agent: Vec<(CallTime, usize)>,
    told_caller: Vec<String>,
    told_agent: Vec<String>,
    log: Vec<LoggedEvent>,
    now: CallTime,
}

impl Outlet for Kept {
    fn command(&mut self, to: Side, command: LegCommand<'_>) {
        let (audio, told) = match to {
            Side::Caller => (&mut self.to_caller, &mut self.told_caller),
            Side::Agent => (&mut self.to_agent, &mut self.told_agent),
        };
        match command {
            LegCommand::Audio(samples) => audio.push((self.now, samples.len())),
            LegCommand::Clear => told.push("clear".to_owned()),
            LegCommand::SpeechStarted(mark) => told.push(format!("started {} {:?}", mark.utterance, mark.position)),
            LegCommand::SpeechStopped(mark) => told.push(format!("stopped {} {:?}", mark.utterance, mark.position)),
            LegCommand::Hangup(reason) => told.push(format!("hang up {reason:?}")),
            other => told.push(format!("{other:?}")),
        }
    }

    fn record(&mut self, of: Side, at: SampleIndex, samples: &[i16]) {
        let track = match of {
            Side::Caller => &mut self.caller,
            Side::Agent => &mut self.agent,
        };
        track.push((at.get(), samples.to_vec()));
    }

    fn log(&mut self, event: LoggedEvent) {
        self.log.push(event);
    }
}

/// A bridge and its virtual clock.
struct Line {
    bridge: Bridge,
    kept: Kept,
}

impl Line {
    fn new(caller: Rate, agent: Rate) -> Self {
        let continuous = Abilities { continuous_source: true, speech_marks: true, ..Abilities::default() };
        let plain = Abilities { speech_marks: true, ..Abilities::default() };
        let bridge = Bridge::new(Party { rate: caller, abilities: continuous }, Party { rate: agent, abilities: plain });
        Self { bridge, kept: Kept::default() }
    }

    fn at(&mut self, now: Duration, side: Side, event: LegEvent) {
        self.run_to(now);
        self.bridge.event(self.kept.now, side, event, &mut self.kept);
        self.bridge.tick(self.kept.now, &mut self.kept);
    }

    /// Lets the time pass as the call's task would: waking when the bridge asks for it.
    fn run_to(&mut self, to: Duration) {
        let to = CallTime::after(to);
        while let Some(wake) = self.bridge.next_wake().filter(|wake| *wake <= to) {
            self.kept.now = self.kept.now.max(wake);
            self.bridge.tick(self.kept.now, &mut self.kept);
            assert!(self.bridge.next_wake() != Some(wake), "the bridge asks for a moment that it does not use");
        }
        self.kept.now = self.kept.now.max(to);
        self.bridge.tick(self.kept.now, &mut self.kept);
    }

    fn logged<T>(&self, pick: impl Fn(&LoggedEvent) -> Option<T>) -> Vec<T> {
        self.kept.log.iter().filter_map(pick).collect()
    }

    /// How much silence was left out, in ms.
    fn skipped_ms(&self) -> f64 {
        let skipped = |event: &LoggedEvent| match event.event {
            Event::SilenceSkipped { skipped_ms, .. } => Some(skipped_ms),
            _ => None,
        };
        self.kept.log.iter().filter_map(skipped).sum()
    }
}

/// A track as one run of samples, silence where nothing was heard.
fn track(frames: &[(u64, Vec<i16>)]) -> Vec<i16> {
    let mut out = Vec::new();
    for (at, samples) in frames {
        assert!(out.len() as u64 <= *at, "the track goes back from {} to {at}", out.len());
        out.resize(*at as usize, 0);
        out.extend(samples);
    }
    out
}

fn ramp(from: usize, len: usize) -> Vec<i16> {
    (from..from + len).map(|sample| (sample % 30_000) as i16 + 1).collect()
}

/// Ten words of half a second with as long a pause after each.
fn words() -> Vec<i16> {
    (0..10).flat_map(|word| [ramp(word * 1000, 8000), vec![0; 8000]].concat()).collect()
}

fn mark(utterance: &str, position: Option<u64>) -> Mark {
    let source = if position.is_some() { MarkSource::Script } else { MarkSource::Signalled };
    Mark { utterance: utterance.to_owned(), position, source, interruption: None }
}

#[test]
fn a_burst_of_five_seconds_is_heard_and_recorded_over_five_seconds() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    line.at(1000 * MS, Side::Agent, LegEvent::Audio(ramp(0, 80_000)));
    line.run_to(3000 * MS);
    let heard: usize = line.kept.to_caller.iter().map(|(_, samples)| samples).sum();
    let expected = 32_000 + 320 + 320;
    assert!(heard.abs_diff(expected) <= 320, "after 2 s of 5, {heard} samples were let go, about {expected} expected");
    line.run_to(7000 * MS);
    let mut expected = vec![0; 16_000];
    expected.extend(ramp(0, 80_000));
    assert_eq!(track(&line.kept.agent), expected);
    let last = line.kept.to_caller.last().expect("audio was let go").0;
    assert!(last.elapsed() >= 5940 * MS && last.elapsed() <= 6000 * MS, "the last frame left at {last:?}");
}

#[test]
fn a_real_time_source_passes_at_once_and_without_a_gap_for_jitter() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    for frame in 0..50_usize {
        let jitter = if frame % 7 == 3 { 15 * MS } else { Duration::ZERO };
        line.at(20 * MS * frame as u32 + jitter, Side::Agent, LegEvent::Audio(ramp(frame * 320, 320)));
        let (sent, _) = *line.kept.to_caller.last().expect("a frame passes when it comes");
        assert_eq!(sent.elapsed(), 20 * MS * frame as u32 + jitter);
    }
    assert_eq!(track(&line.kept.agent), ramp(0, 16_000));
}

#[test]
fn an_utterance_is_given_whole_before_its_end_is_told_also_at_another_rate() {
    for (caller, due) in [(Rate::HZ_16000, 16_100), (Rate::HZ_8000, 8050), (Rate::HZ_48000, 48_300)] {
        let mut line = Line::new(caller, Rate::HZ_16000);
        line.at(Duration::ZERO, Side::Agent, LegEvent::SpeechStarted(mark("u", None)));
        // A second and a little: the last frame is not full.
        line.at(Duration::ZERO, Side::Agent, LegEvent::Audio(ramp(0, 16_100)));
        line.at(Duration::ZERO, Side::Agent, LegEvent::SpeechStopped(mark("u", None)));
        let told = |line: &Line| line.kept.told_caller.iter().any(|told| told.starts_with("stopped"));
        let mut now = 0;
        while !told(&line) {
            now += 1;
            line.run_to(now * MS);
            assert!(now < 2000, "its end is told");
        }
        let given: usize = line.kept.to_caller.iter().map(|(_, samples)| samples).sum();
        assert_eq!((given, now <= 1020), (due, true), "{} Hz, after {now} ms", caller.hz());
        line.run_to(3000 * MS);
        let given: usize = line.kept.to_caller.iter().map(|(_, samples)| samples).sum();
        assert_eq!(given, due, "nothing comes after it");
    }
}

#[test]
fn a_pause_of_the_speaker_is_silence_of_its_length() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    line.at(Duration::ZERO, Side::Agent, LegEvent::Audio(vec![7; 1600]));
    line.at(1000 * MS, Side::Agent, LegEvent::Audio(vec![9; 1600]));
    line.run_to(2000 * MS);
    let recorded = track(&line.kept.agent);
    assert_eq!(recorded.len(), 17_600);
    assert!(recorded[..1600].iter().all(|s| *s == 7) && recorded[1600..16_000].iter().all(|s| *s == 0));
    assert!(recorded[16_000..].iter().all(|s| *s == 9));
}

#[test]
fn what_an_interruption_throws_away_is_counted_and_not_recorded() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    line.at(Duration::ZERO, Side::Agent, LegEvent::SpeechStarted(mark("a1", None)));
    line.at(Duration::ZERO, Side::Agent, LegEvent::Audio(ramp(0, 80_000)));
    line.at(Duration::ZERO, Side::Agent, LegEvent::SpeechStopped(mark("a1", None)));
    line.at(2000 * MS, Side::Caller, LegEvent::SpeechStarted(mark("c1", Some(0))));
    line.run_to(8000 * MS);
    let recorded = track(&line.kept.agent);
    let discarded = line.logged(|event| match event.event {
        Event::Discarded { discarded_ms, sample } => Some((discarded_ms, sample)),
        _ => None,
    });
    assert_eq!(discarded.len(), 1);
    let (discarded_ms, sample) = discarded[0];
    assert_eq!(recorded.len() as u64, sample);
    assert_eq!(recorded, ramp(0, recorded.len()));
    assert!((recorded.len() as f64 / 16.0 + discarded_ms - 5000.0).abs() < 0.001, "heard and discarded make 5 s");
    assert!((2000.0..=2040.0).contains(&(recorded.len() as f64 / 16.0)), "what was let go stops with the interruption");
    assert_eq!(line.kept.told_caller, ["started a1 None", "clear", "stopped a1 None"]);
    assert!(line.kept.told_agent.contains(&"started c1 Some(0)".to_owned()));
    let stops = line.logged(|event| match event.event {
        Event::SpeechStopped { sample, interrupted, .. } if event.side == Some(Side::Agent) => Some((sample, interrupted)),
        _ => None,
    });
    assert_eq!(stops, [(sample, true)]);
}

#[test]
fn a_checkpoint_is_reached_when_all_before_it_was_heard_and_not_when_it_came() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_8000);
    line.at(Duration::ZERO, Side::Agent, LegEvent::Checkpoint(1));
    assert_eq!(line.kept.told_agent, ["Reached(1)"], "nothing was said before it");
    // Two seconds in one burst, with a checkpoint after the first and after the second.
    for number in [2, 3] {
        line.at(500 * MS, Side::Agent, LegEvent::Audio(vec![5; 8000]));
        line.at(500 * MS, Side::Agent, LegEvent::Checkpoint(number));
    }
    for (reached, moment) in [(2, 1500 * MS), (3, 2500 * MS)] {
        line.run_to(moment - MS);
        assert_eq!(line.kept.told_agent.len(), reached - 1, "{:?}", line.kept.told_agent);
        line.run_to(moment);
        assert_eq!(line.kept.told_agent.last(), Some(&format!("Reached({reached})")));
    }
}

#[test]
fn what_a_speaker_takes_back_is_not_heard_and_its_checkpoints_are_reached_at_once() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_8000);
    for number in [1, 2] {
        line.at(Duration::ZERO, Side::Agent, LegEvent::Audio(vec![5; 8 * 4000]));
        line.at(Duration::ZERO, Side::Agent, LegEvent::Checkpoint(number));
    }
    line.at(1000 * MS, Side::Agent, LegEvent::Clear);
    assert_eq!(line.kept.told_agent, ["Reached(1)", "Reached(2)"]);
    assert_eq!(line.kept.told_caller, ["clear"], "what the listener's leg still has is thrown away too");
    // What is said next is heard from now on, and its checkpoint waits for nothing that was taken back.
    line.at(3000 * MS, Side::Agent, LegEvent::Audio(vec![6; 800]));
    line.at(3000 * MS, Side::Agent, LegEvent::Checkpoint(3));
    line.run_to(3099 * MS);
    assert_eq!(line.kept.told_agent.len(), 2);
    line.run_to(3100 * MS);
    assert_eq!(line.kept.told_agent.last().map(String::as_str), Some("Reached(3)"));
    line.at(3500 * MS, Side::Agent, LegEvent::Clear);
    line.at(3500 * MS, Side::Agent, LegEvent::Checkpoint(4));
    assert_eq!(line.kept.told_agent.last().map(String::as_str), Some("Reached(4)"), "nothing waits");
    let recorded = track(&line.kept.agent);
    let heard = recorded.iter().filter(|sample| **sample == 5).count() as f64 / 8.0;
    assert!((1000.0..=1040.0).contains(&heard), "{heard} ms were heard before the rest was taken back");
    let discarded: Vec<f64> = line.logged(|event| match event.event {
        Event::Discarded { discarded_ms, .. } => Some(discarded_ms),
        _ => None,
    });
    assert_eq!(discarded, [8000.0 - heard], "told once: a clear of nothing is none");
}

#[test]
fn a_scripted_mark_keeps_its_sample_through_bursts_discards_and_pauses() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_8000);
    // The agent: 1 s at once; then a burst that is cut after about 0.5 s; then, much later, a marked word.
    line.at(Duration::ZERO, Side::Agent, LegEvent::Audio(vec![1; 8000]));
    line.at(1500 * MS, Side::Agent, LegEvent::Audio(vec![2; 16_000]));
    line.at(2000 * MS, Side::Caller, LegEvent::SpeechStarted(mark("c", Some(0))));
    line.at(4000 * MS, Side::Agent, LegEvent::SpeechStarted(mark("a", Some(24_000 + 160))));
    line.at(4000 * MS, Side::Agent, LegEvent::Audio(vec![3; 1600]));
    line.at(4000 * MS, Side::Agent, LegEvent::SpeechStopped(mark("a", Some(24_000 + 960))));
    line.run_to(6000 * MS);
    let marks = line.logged(|event| match event.event {
        Event::SpeechStarted { sample, source, .. } if event.side == Some(Side::Agent) => Some((sample, source)),
        Event::SpeechStopped { sample, source, interrupted: false } if event.side == Some(Side::Agent) => Some((sample, source)),
        _ => None,
    });
    assert_eq!(marks, [(32_160, MarkSource::Script), (32_960, MarkSource::Script)]);
}

#[test]
fn speech_that_an_agent_sent_before_it_hung_up_is_played_to_its_end() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    line.at(Duration::ZERO, Side::Agent, LegEvent::Audio(ramp(0, 32_000)));
    line.at(10 * MS, Side::Agent, LegEvent::Hangup { reason: EndReason::HungUp, detail: String::new() });
    line.run_to(1900 * MS);
    assert!(line.bridge.end().is_none(), "the goodbye is still being heard");
    line.run_to(2100 * MS);
    let end = line.bridge.end().expect("all is said");
    assert_eq!((end.by, end.reason), (Some(Side::Agent), EndReason::HungUp));
    assert_eq!(track(&line.kept.agent), ramp(0, 32_000));
}

#[test]
fn after_an_hour_both_tracks_are_within_a_sample_of_the_truth() {
    let hour_frames = 180_000_u32;
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_24000);
    let mut random = Random(0x2545_F491);
    let mut bursts = Vec::new();
    for frame in 0..hour_frames {
        // The caller's frames come with up to 40 ms of jitter, but in order; every 10 s the agent bursts 2 s of speech.
        let at = 20 * MS * frame + Duration::from_micros(random.below(40_000));
        let at = at.max(line.kept.now.elapsed());
        line.at(at, Side::Caller, LegEvent::Audio(vec![(frame % 30_000) as i16 + 1; 320]));
        if frame % 500 == 250 {
            bursts.push(line.kept.now);
            line.at(line.kept.now.elapsed(), Side::Agent, LegEvent::Audio(vec![bursts.len() as i16; 48_000]));
        }
    }
    line.run_to(20 * MS * hour_frames + 3000 * MS);
    let caller = track(&line.kept.caller);
    let first = line.kept.caller[0].0;
    assert!(first <= 640, "the first frame lies where it came");
    assert_eq!(caller.len() as u64 - first, u64::from(hour_frames) * 320, "no sample was added or lost");
    let at_the_hour = caller[(first + u64::from(hour_frames - 1) * 320) as usize];
    assert_eq!(at_the_hour, ((hour_frames - 1) % 30_000) as i16 + 1);
    let agent = track(&line.kept.agent);
    let mut from = 0;
    for (number, came) in bursts.iter().enumerate() {
        let truth = came.elapsed().as_secs_f64() * 24_000.0;
        let is_burst = |sample: &i16| *sample == number as i16 + 1;
        let start = from + agent[from..].iter().position(is_burst).expect("every burst is heard");
        from = start;
        assert!((start as f64 - truth).abs() <= 1.0, "burst {number}: at {start}, truth {truth}");
    }
}

#[test]
fn frames_that_an_outage_holds_up_are_late_and_not_a_pause() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    for frame in 0..100_u32 {
        // The line stands still from 0.5 s to 0.8 s; then all comes at once.
        let at = 20 * MS * frame;
        let at = if (500 * MS..800 * MS).contains(&at) { 800 * MS } else { at };
        line.at(at, Side::Caller, LegEvent::Audio(ramp(frame as usize * 320, 320)));
    }
    line.run_to(8000 * MS);
    assert_eq!(track(&line.kept.caller), ramp(0, 32_000));
    let late = line.logged(|event| match event.event {
        Event::Late { frames, worst_ms } => Some((frames, worst_ms)),
        _ => None,
    });
    assert_eq!(late.len(), 1, "one outage is one line of the log");
    assert!(late[0].0 >= 13 && (late[0].1 - 300.0).abs() < 1.0, "{late:?}");
}

#[test]
fn a_caller_whose_first_frames_came_in_a_heap_catches_up_in_its_silence() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    // Ten frames at once, then one every 20 ms: silence with a word from 3 s to 4 s.
    let word = |frame: u32| (150..200).contains(&frame);
    for frame in 0..400_u32 {
        let at = 20 * MS * frame.saturating_sub(9);
        let samples = if word(frame) { ramp(frame as usize * 320, 320) } else { vec![0; 320] };
        line.at(at, Side::Caller, LegEvent::Audio(samples));
    }
    line.run_to(9000 * MS);
    let skipped = line.skipped_ms();
    assert!((165.0..=180.0).contains(&skipped), "180 ms waited for nothing, {skipped} ms were left out");
    let recorded = track(&line.kept.caller);
    assert_eq!(recorded.len(), 400 * 320 - (skipped * 16.0) as usize);
    let spoken: Vec<i16> = recorded.iter().copied().filter(|sample| *sample != 0).collect();
    assert_eq!(spoken, (150..200).flat_map(|frame| ramp(frame * 320, 320)).collect::<Vec<_>>(), "the word is whole");
    let (last, _) = *line.kept.to_agent.last().expect("frames were let go");
    assert_eq!(last.elapsed(), 20 * MS * 390, "the last frame passes when it comes");
}

#[test]
fn what_an_interruption_cleared_is_not_caught_up_again() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    // 180 ms wait for nothing while the caller speaks; at 2.5 s the agent cuts in, which clears them; then there is silence.
    for frame in 0..400_u32 {
        let at = 20 * MS * frame.saturating_sub(9);
        if frame == 134 {
            line.at(at, Side::Agent, LegEvent::SpeechStarted(mark("a", None)));
        }
        let samples = if frame < 134 { ramp(frame as usize * 320, 320) } else { vec![0; 320] };
        line.at(at, Side::Caller, LegEvent::Audio(samples));
    }
    line.run_to(9000 * MS);
    // What was let go in its last moment plays for one frame more; the 160 ms behind it are cleared and wait no longer.
    let skipped = line.skipped_ms();
    assert!(skipped <= 40.0, "{skipped} ms were left out");
    let late = line.logged(|event| matches!(event.event, Event::Late { .. }).then_some(()));
    assert_eq!(late.len(), 0, "nothing was made late");
    let (last, _) = *line.kept.to_agent.last().expect("frames were let go");
    assert_eq!(last.elapsed(), 20 * MS * 390, "the last frame passes when it comes");
}

#[test]
fn a_caller_that_sends_ten_seconds_ahead_is_played_as_it_was_made() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    let speech = words();
    line.at(Duration::ZERO, Side::Caller, LegEvent::Audio(speech.clone()));
    for frame in 1..200_u32 {
        line.at(20 * MS * frame, Side::Caller, LegEvent::Audio(vec![0; 320]));
    }
    line.run_to(15_000 * MS);
    assert_eq!(track(&line.kept.caller)[..speech.len()], speech);
}

#[test]
fn a_caller_that_speaks_without_a_pause_is_never_cut() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    for frame in 0..400_u32 {
        line.at(20 * MS * frame.saturating_sub(9), Side::Caller, LegEvent::Audio(ramp(frame as usize * 320, 320)));
    }
    line.run_to(9000 * MS);
    assert_eq!(track(&line.kept.caller), ramp(0, 400 * 320));
}

#[test]
fn an_agents_burst_with_pauses_in_it_is_played_as_it_was_made() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    let speech = words();
    // Half a second of it every 100 ms: what waits grows all the time.
    for (number, piece) in speech.chunks(8000).enumerate() {
        line.at(100 * MS * number as u32, Side::Agent, LegEvent::Audio(piece.to_vec()));
    }
    line.run_to(20_000 * MS);
    assert_eq!(track(&line.kept.agent), speech);
}

#[test]
fn a_sink_that_needs_audio_without_a_gap_gets_silence() {
    let plain = Party { rate: Rate::HZ_16000, abilities: Abilities::default() };
    let hungry = Party { rate: Rate::HZ_8000, abilities: Abilities { continuous_sink: true, ..Abilities::default() } };
    let mut line = Line { bridge: Bridge::new(plain, hungry), kept: Kept::default() };
    line.at(500 * MS, Side::Caller, LegEvent::Audio(vec![5; 1600]));
    line.run_to(2000 * MS);
    let given: usize = line.kept.to_agent.iter().map(|(_, samples)| samples).sum();
    assert!((15_000..=16_000).contains(&given), "about 2 s at 8 kHz, at most 125 ms behind: {given}");
    assert_eq!(line.kept.caller.len(), 5, "silence that was made up is not recorded as heard");
}

proptest! {
    /// Whatever comes, and whenever: no panic, no sample twice, nothing lost but what is counted.
    #[test]
    fn every_sample_is_recorded_discarded_or_still_waiting(
        steps in proptest::collection::vec((0_u64..300, 0_usize..4, 1_usize..9000), 1..60)
    ) {
        let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
        let (mut now, mut given) = (Duration::ZERO, 0);
        for (wait, what, size) in steps {
            now += MS * wait as u32;
            match what {
                0 | 1 => {
                    given += size;
                    line.at(now, Side::Agent, LegEvent::Audio(vec![1; size]));
                }
                2 => line.at(now, Side::Caller, LegEvent::SpeechStarted(mark("c", None))),
                _ => line.at(now, Side::Agent, LegEvent::SpeechStopped(mark("a", Some(size as u64)))),
            }
        }
        line.run_to(now + Duration::from_secs(60));
        let recorded: usize = line.kept.agent.iter().map(|(_, samples)| samples.len()).sum();
        let discarded: f64 = line.logged(|event| match event.event {
            Event::Discarded { discarded_ms, .. } => Some(discarded_ms),
            _ => None,
        }).iter().sum();
        prop_assert_eq!(recorded + (discarded * 16.0).round() as usize, given);
        track(&line.kept.agent);
    }
}

#[test]
fn a_mark_and_an_effect_lie_where_they_should_after_a_pause_that_was_let_go() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    line.at(Duration::ZERO, Side::Caller, LegEvent::Audio(vec![0; 320]));
    line.at(20 * MS, Side::Caller, LegEvent::Paused(640));
    // The source's next sample is its 960th, and 960 is where it plays.
    let effect = trunkline::call::Effect { kind: trunkline::call::EffectKind::Volume { ratio: 2.0 }, seed: None };
    line.at(60 * MS, Side::Caller, LegEvent::Audio(ramp(0, 320)));
    line.at(60 * MS, Side::Caller, LegEvent::SpeechStarted(mark("a", Some(960))));
    line.at(60 * MS, Side::Caller, LegEvent::EffectStarted { number: 0, effect: effect.clone(), position: 960 });
    line.at(80 * MS, Side::Caller, LegEvent::EffectEnded { number: 0, position: 1280 });
    let told = |logged: &LoggedEvent| match &logged.event {
        Event::SpeechStarted { sample, .. } => Some(("speech", *sample)),
        Event::EffectStarted { sample, what, .. } if *what == effect => Some(("effect", *sample)),
        Event::EffectEnded { sample, .. } => Some(("end", *sample)),
        _ => None,
    };
    assert_eq!(line.logged(told), [("speech", 960), ("effect", 960), ("end", 1280)]);
    assert_eq!(track(&line.kept.caller)[960..1280], ramp(0, 320)[..]);
}

#[test]
fn a_backchannel_interrupts_nobody() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    line.at(Duration::ZERO, Side::Agent, LegEvent::Audio(ramp(0, 16_000)));
    line.at(200 * MS, Side::Caller, LegEvent::Audio(vec![9; 320]));
    let aside = LegEvent::Backchannel { text: "Yes.".to_owned(), position: 0, samples: 320 };
    line.at(200 * MS, Side::Caller, aside);
    line.run_to(Duration::from_secs(2));
    assert!(line.kept.told_agent.iter().chain(&line.kept.told_caller).all(|told| told != "clear" && !told.starts_with("started")));
    let heard: usize = line.kept.to_caller.iter().map(|(_, samples)| samples).sum();
    assert_eq!(heard, 16_000, "the agent is heard to its end");
    let told = |logged: &LoggedEvent| match logged.event {
        Event::Backchannel { sample, end_sample, .. } => Some((sample, end_sample)),
        _ => None,
    };
    let places = line.logged(told);
    assert!(places.len() == 1 && places[0].1 - places[0].0 == 320, "{places:?}");
}

/// What is told of an agent's audio that comes too slowly, in pieces of 40 ms at these times (ms): holes, missing and audio.
fn starved(at: impl IntoIterator<Item = u64>) -> Vec<(u32, f64, f64)> {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    for at in at {
        line.at(Duration::from_millis(at), Side::Agent, LegEvent::Audio(ramp(0, 640)));
    }
    line.at(Duration::from_secs(20), Side::Agent, LegEvent::Hangup { reason: EndReason::HungUp, detail: String::new() });
    line.logged(|event| match event.event {
        Event::Starved { gaps, missing_ms, audio_ms } if event.side == Some(Side::Agent) => Some((gaps, missing_ms, audio_ms)),
        _ => None,
    })
}

#[test]
fn audio_that_comes_slower_than_it_plays_is_told_of() {
    // 40 ms every 60: two thirds of real time, of which two seconds of audio are one event and the last half second another.
    assert_eq!(starved((0..65).map(|piece| piece * 60)), [(49, 980.0, 2000.0), (15, 300.0, 600.0)]);
    // A pause is the speaker's, however often it comes.
    assert_eq!(starved((0..65).map(|piece| piece * 40 + piece / 10 * 300)), []);
    // Jitter: every second piece 30 ms late; the stream as a whole keeps its pace.
    assert_eq!(starved((0..65).map(|piece| piece * 40 + piece % 2 * 30)), []);
    // Bursts, far faster than real time, with silence between.
    assert_eq!(starved((0..65).map(|piece| piece / 20 * 2000)), []);
    // Two hiccups are no starvation.
    assert_eq!(starved((0..50).map(|piece| piece * 40 + u64::from(piece > 10) * 200 + u64::from(piece > 30) * 200)), []);
}

#[test]
fn what_a_speaker_takes_back_is_counted_and_the_next_words_are_heard() {
    let mut line = Line::new(Rate::HZ_16000, Rate::HZ_16000);
    line.at(Duration::ZERO, Side::Agent, LegEvent::Audio(ramp(0, 16_000)));
    line.at(Duration::from_millis(300), Side::Agent, LegEvent::Clear);
    line.at(Duration::from_millis(600), Side::Agent, LegEvent::Audio(ramp(0, 1600)));
    line.run_to(Duration::from_secs(1));
    let discarded = line.logged(|event| match event.event {
        Event::Discarded { discarded_ms, .. } => Some(discarded_ms),
        _ => None,
    });
    assert!(discarded.len() == 1 && (660.0..=700.0).contains(&discarded[0]), "{discarded:?} ms of one second");
    assert!(line.kept.told_caller.contains(&"clear".to_owned()), "{:?}", line.kept.told_caller);
    let heard = track(&line.kept.agent);
    assert_eq!(heard[9600..], ramp(0, 1600), "what comes later is heard in its time");
    // Who takes back nothing discards nothing.
    line.at(Duration::from_secs(2), Side::Agent, LegEvent::Clear);
    assert_eq!(line.logged(|event| matches!(event.event, Event::Discarded { .. }).then_some(())).len(), 1);
}
