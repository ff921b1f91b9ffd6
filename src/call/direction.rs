//! One way through a call: a speaker's audio and marks on their way to the listener and the recording.

use std::collections::VecDeque;
use std::time::Duration;

use super::outlet::{Outlet, log};
use super::supply::{Supply, Window};
use super::{Abilities, CallTime, Effect, Event, LegCommand, Mark, MarkSource};
use super::{Playout, Released, SampleIndex, Side};
use crate::audio::{FRAME, Rate, Resampler};

/// Late frames are gathered into one log line for this long.
const LATE_LOG_EVERY: Duration = Duration::from_secs(5);
/// How many pauses back a speech mark may lie and still find its place in the track.
const RUNS_KEPT: usize = 64;
/// How far ahead of its audio a speech mark may point, and how many may wait: no far side can make them pile up.
const MARK_AHEAD: Duration = Duration::from_secs(5);
const MARKS_KEPT: usize = 256;
/// The functions of a chat that may wait for their results.
const CALLS_KEPT: usize = 64;

/// What the bridge must know of a leg.
#[derive(Debug, Clone, Copy)]
pub struct Party {
    /// The rate of its audio.
    pub rate: Rate,
    /// What it can do.
    pub abilities: Abilities,
}

/// One way: from a speaker to its listener.
#[derive(Debug)]
pub(super) struct Direction {
    from: Side,
    playout: Playout,
    resampler: Option<Resampler>,
    fill_silence: bool,
    runs: VecDeque<Run>,
    /// Samples that the listener's leg was given, at its own rate.
    delivered: u64,
    rates: (Rate, Rate),
    marks: VecDeque<PendingMark>,
    notes: VecDeque<(u64, AudioNote)>,
    checkpoints: VecDeque<Checkpoint>,
    /// The utterance of which the listener was told the start and not yet the stop.
    open: Option<Mark>,
    /// The functions that the speaker of a chat has called and of which it has told no result.
    called: VecDeque<String>,
    late: Late,
    /// Of a source that sends nothing while it does not speak.
    supply: Option<Supply>,
}

/// Unbroken audio: where it begins in the source's stream, in the track, and in the stream that the listener's leg gets.
#[derive(Debug, Clone, Copy)]
struct Run {
    source: u64,
    at: SampleIndex,
    delivered: u64,
}

/// A speech boundary that the track has not reached yet.
#[derive(Debug)]
struct PendingMark {
    mark: Mark,
    /// In the source's stream.
    position: u64,
    start: bool,
    /// A stop is told to the listener once it was given what the speaker sent before the stop.
    tell_after: Option<u64>,
}

/// A place in its stream at which a source is to be told that all before it was heard.
#[derive(Debug)]
struct Checkpoint {
    number: u64,
    /// In the source's stream.
    position: u64,
}

/// What a source tells of its own audio, with its place in the source's stream: it waits until the track has reached it.
#[derive(Debug)]
pub(super) enum AudioNote {
    EffectStarted { number: u32, effect: Effect },
    EffectEnded { number: u32 },
    Backchannel { text: String, samples: u64 },
}

#[derive(Debug, Default)]
struct Late {
    frames: u64,
    worst: Duration,
    since: Option<CallTime>,
}

impl Direction {
    pub(super) fn new(from: Side, source: Party, sink: Party) -> Self {
        Self {
            from,
            playout: Playout::new(source.rate, source.abilities.continuous_source),
            resampler: (source.rate != sink.rate).then(|| Resampler::new(source.rate, sink.rate)),
            fill_silence: sink.abilities.continuous_sink,
            runs: VecDeque::new(),
            delivered: 0,
            rates: (source.rate, sink.rate),
            marks: VecDeque::new(),
            notes: VecDeque::new(),
            checkpoints: VecDeque::new(),
            open: None,
            called: VecDeque::new(),
            late: Late::default(),
            supply: (!source.abilities.continuous_source).then(|| Supply::new(source.rate)),
        }
    }

    /// Takes audio of the speaker.
    pub(super) fn take(&mut self, now: CallTime, samples: &[i16], out: &mut impl Outlet) {
        let arrival = self.playout.push(now, samples);
        self.late.note(now, arrival.late);
        let starved = self.supply.as_mut().and_then(|supply| supply.push(now, samples.len()));
        starved.into_iter().for_each(|window| log_starved(out, now, self.from, window));
        if arrival.overflow > 0 {
            let discarded_ms = self.playout.rate().millis_of(arrival.overflow as u64);
            let sample = self.playout.head().get();
            log(out, now, Some(self.from), Event::Discarded { discarded_ms, sample });
        }
    }

    /// Lets go what is due.
    pub(super) fn release(&mut self, now: CallTime, frame: &mut Vec<i16>, converted: &mut Vec<i16>, out: &mut impl Outlet) {
        while let Some(released) = self.playout.release(now, frame) {
            self.note_run(released);
            out.record(self.from, released.at, frame);
            self.deliver(frame, converted, out);
            self.settle_marks(now, converted, out);
        }
        self.settle_marks(now, converted, out);
        self.settle_checkpoints(now, out);
        let skipped = self.playout.take_skipped();
        if skipped > 0 {
            let skipped_ms = self.playout.rate().millis_of(skipped);
            log(out, now, Some(self.from), Event::SilenceSkipped { skipped_ms, sample: self.playout.head().get() });
        }
        if self.playout.silent_from().is_some_and(|from| from <= now) {
            self.rest(now, frame, converted, out);
        }
        self.late.log(now, LATE_LOG_EVERY, self.from, out);
    }

    pub(super) fn next_wake(&self) -> Option<CallTime> {
        let holding = self.fill_silence || self.resampler.as_ref().is_some_and(Resampler::holds_back);
        let due = self.playout.next_due().or_else(|| self.playout.silent_from().filter(|_| holding));
        due.into_iter().chain(self.next_checkpoint()).min()
    }

    /// A function is called: its result is waited for.
    pub(super) fn expect_result(&mut self, call: &str) {
        if self.called.len() == CALLS_KEPT {
            self.called.pop_front();
        }
        self.called.push_back(call.to_owned());
    }

    pub(super) fn drained(&self) -> bool {
        self.playout.next_due().is_none()
    }

    /// A function has given its result.
    pub(super) fn take_result(&mut self, call: &str) {
        self.called.retain(|id| id != call);
    }

    /// Functions were called whose results have not come.
    pub(super) fn awaits_results(&self) -> bool {
        !self.called.is_empty()
    }

    /// The speaker lets silence pass without sending it.
    pub(super) fn skip(&mut self, samples: u64) {
        self.playout.skip(samples);
    }

    /// The speaker begins: the listener is told at once.
    pub(super) fn speech_started(&mut self, mark: Mark, out: &mut impl Outlet) {
        self.open = Some(mark.clone());
        self.tell(&mark, true, out);
        self.expect_mark(mark, true);
    }

    fn note_run(&mut self, released: Released) {
        let unbroken = |run: &Run| released.at == run.at + (released.source - run.source);
        if !self.runs.back().is_some_and(unbroken) {
            if self.runs.len() == RUNS_KEPT {
                self.runs.pop_front();
            }
            self.runs.push_back(Run { source: released.source, at: released.at, delivered: self.delivered });
        }
    }

    /// The listener's leg gets a released frame, at its own rate.
    fn deliver(&mut self, frame: &[i16], converted: &mut Vec<i16>, out: &mut impl Outlet) {
        let audio = match &mut self.resampler {
            None => frame,
            Some(resampler) => {
                converted.clear();
                resampler.push(frame, converted);
                converted
            }
        };
        self.give(audio, out);
    }

    fn give(&mut self, audio: &[i16], out: &mut impl Outlet) {
        if !audio.is_empty() {
            self.delivered += audio.len() as u64;
            out.command(self.from.other(), LegCommand::Audio(audio));
        }
    }

    /// The speaker pauses: nothing may stay in the filter, and a sink without gaps gets silence.
    fn rest(&mut self, now: CallTime, frame: &mut Vec<i16>, converted: &mut Vec<i16>, out: &mut impl Outlet) {
        if self.fill_silence {
            while self.playout.silent_from().is_some_and(|from| from <= now) {
                self.playout.pass_silence(frame);
                self.deliver(frame, converted, out);
            }
        } else {
            self.empty_filter(converted, out);
        }
    }

    /// The listener's leg gets what the filter holds back.
    fn empty_filter(&mut self, converted: &mut Vec<i16>, out: &mut impl Outlet) {
        if let Some(resampler) = self.resampler.as_mut().filter(|resampler| resampler.holds_back()) {
            converted.clear();
            resampler.flush(converted);
            self.give(converted, out);
        }
    }

    pub(super) fn expect_mark(&mut self, mark: Mark, start: bool) {
        let given = self.playout.given();
        let furthest = given + self.playout.rate().samples_in(MARK_AHEAD);
        let position = mark.position.map_or(given, |position| position.min(furthest));
        if self.marks.len() == MARKS_KEPT {
            self.marks.pop_front();
        }
        let tell_after = (!start).then_some(given);
        self.marks.push_back(PendingMark { mark, position, start, tell_after });
    }

    /// Of very many the oldest are as good as reached: no far side can make them pile up.
    pub(super) fn expect_checkpoint(&mut self, number: u64) {
        let position = if self.checkpoints.len() < MARKS_KEPT { self.playout.given() } else { 0 };
        self.checkpoints.push_back(Checkpoint { number, position });
    }

    /// When the first checkpoint is reached, if all audio before it has been let go.
    fn next_checkpoint(&self) -> Option<CallTime> {
        let released = self.playout.given() - self.playout.waiting();
        let first = self.checkpoints.front().filter(|first| first.position <= released)?;
        // What is let go is a little ahead of its moment; what was thrown away has none.
        Some(self.place(first.position, false).min(self.playout.head()).at(self.rates.0))
    }

    pub(super) fn settle_checkpoints(&mut self, now: CallTime, out: &mut impl Outlet) {
        while self.next_checkpoint().is_some_and(|at| at <= now)
            && let Some(reached) = self.checkpoints.pop_front()
        {
            out.command(self.from, LegCommand::Reached(reached.number));
        }
    }

    pub(super) fn expect_note(&mut self, position: u64, note: AudioNote) {
        if self.notes.len() == MARKS_KEPT {
            self.notes.pop_front();
        }
        self.notes.push_back((position, note));
    }

    /// Logs the notes that the track has reached.
    fn settle_notes(&mut self, now: CallTime, out: &mut impl Outlet) {
        let reached = self.playout.given() - self.playout.waiting();
        let settled = |(position, note): &mut (u64, AudioNote)| reached > *position || (note.ends() && reached == *position);
        while let Some((position, note)) = self.notes.pop_front_if(settled) {
            let sample = self.place(position, !note.ends()).get();
            self.log_note(now, note, sample, out);
        }
    }

    fn log_note(&self, now: CallTime, note: AudioNote, sample: u64, out: &mut impl Outlet) {
        let event = match note {
            AudioNote::EffectStarted { number, effect } => Event::EffectStarted { effect: number, what: effect, sample },
            AudioNote::EffectEnded { number } => Event::EffectEnded { effect: number, sample },
            AudioNote::Backchannel { text, samples } => Event::Backchannel { text, sample, end_sample: sample + samples },
        };
        log(out, now, Some(self.from), event);
    }

    /// Tells the stops whose audio the listener has, and logs the marks that the track has reached.
    fn settle_marks(&mut self, now: CallTime, converted: &mut Vec<i16>, out: &mut impl Outlet) {
        let reached = self.playout.given() - self.playout.waiting();
        let mut marks = std::mem::take(&mut self.marks);
        for pending in &mut marks {
            if pending.tell_after.take_if(|after| *after <= reached).is_some() {
                // Where nothing follows, the last of it is not to come after its end.
                if !self.fill_silence && self.drained() {
                    self.empty_filter(converted, out);
                }
                self.tell(&pending.mark, false, out);
            }
        }
        // A start belongs to the audio that follows it, a stop to the audio before it.
        let settled = |mark: &mut PendingMark| if mark.start { reached > mark.position } else { reached >= mark.position };
        while let Some(pending) = marks.pop_front_if(settled) {
            let sample = self.place(pending.position, pending.start);
            self.log_mark(now, &pending, sample, false, out);
        }
        self.marks = marks;
        self.settle_notes(now, out);
    }

    /// Tells the listener's leg of a start or a stop, with its place in the stream that this leg gets.
    fn tell(&mut self, mark: &Mark, start: bool, out: &mut impl Outlet) {
        let to = self.from.other();
        let exact = mark.position.filter(|_| mark.source == MarkSource::Script);
        let position = exact.map(|position| self.place_in_delivery(position));
        let told = Mark { position, ..mark.clone() };
        if start {
            out.command(to, LegCommand::SpeechStarted(&told));
        } else if self.open.take_if(|open| open.utterance == mark.utterance).is_some() {
            out.command(to, LegCommand::SpeechStopped(&told));
        }
    }

    fn log_mark(&self, now: CallTime, pending: &PendingMark, at: SampleIndex, interrupted: bool, out: &mut impl Outlet) {
        let (source, sample) = (pending.mark.source, at.get());
        let event = if pending.start {
            Event::SpeechStarted { source, sample, interruption: pending.mark.interruption }
        } else {
            Event::SpeechStopped { source, sample, interrupted }
        };
        log(out, now, Some(self.from), event);
    }

    /// Where in the track the source's sample `position` was played.
    fn place(&self, position: u64, start: bool) -> SampleIndex {
        let before = if start { position } else { position.saturating_sub(1) };
        match self.run_of(before) {
            Some(run) => run.at + (position - run.source),
            None => self.runs.front().map_or(self.playout.head(), |run| run.at),
        }
    }

    /// Where in the stream that the listener's leg gets the source's sample `position` lies.
    fn place_in_delivery(&self, position: u64) -> u64 {
        let (from, to) = (u64::from(self.rates.0.hz()), u64::from(self.rates.1.hz()));
        self.run_of(position).map_or(self.delivered, |run| run.delivered + (position - run.source) * to / from)
    }

    fn run_of(&self, position: u64) -> Option<&Run> {
        self.runs.iter().rev().find(|run| run.source <= position)
    }

    /// The listener began to speak, or the speaker takes back what it said: what waits is never heard.
    pub(super) fn interrupt(&mut self, now: CallTime, out: &mut impl Outlet) {
        let cleared = self.playout.clear();
        self.supply.iter_mut().for_each(Supply::clear);
        if cleared.samples > 0 {
            let discarded_ms = self.playout.rate().millis_of(cleared.samples as u64);
            log(out, now, Some(self.from), Event::Discarded { discarded_ms, sample: cleared.at.get() });
        }
        out.command(self.from.other(), LegCommand::Clear);
        for Checkpoint { number, .. } in self.checkpoints.drain(..) {
            out.command(self.from, LegCommand::Reached(number));
        }
        // A speaker that follows a script says itself where it stopped; nothing of it was cut here.
        let scripted = self.open.as_ref().is_some_and(|mark| mark.source == MarkSource::Script);
        if cleared.samples == 0 && scripted {
            return;
        }
        let heard_to = self.playout.given() - cleared.samples as u64;
        let mut heard = true;
        for pending in std::mem::take(&mut self.marks) {
            if pending.start {
                heard = pending.position < heard_to;
            }
            if heard && (pending.start || pending.position <= heard_to) {
                self.log_mark(now, &pending, self.place(pending.position, pending.start), false, out);
            } else if heard {
                self.log_mark(now, &pending, cleared.at, true, out);
            }
        }
        if let Some(Mark { utterance, .. }) = self.open.take() {
            let stop = Mark { utterance, position: None, source: MarkSource::Signalled, interruption: None };
            out.command(self.from.other(), LegCommand::SpeechStopped(&stop));
        }
    }

    pub(super) fn close(&mut self, now: CallTime, out: &mut impl Outlet) {
        self.late.log(now, Duration::ZERO, self.from, out);
        let starved = self.supply.as_mut().and_then(Supply::finish);
        starved.into_iter().for_each(|window| log_starved(out, now, self.from, window));
        let waiting = self.playout.clear();
        if waiting.samples > 0 {
            let discarded_ms = self.playout.rate().millis_of(waiting.samples as u64);
            log(out, now, Some(self.from), Event::Discarded { discarded_ms, sample: waiting.at.get() });
        }
        for pending in std::mem::take(&mut self.marks) {
            if !pending.start {
                self.log_mark(now, &pending, self.playout.head(), true, out);
            }
        }
        for (_, note) in std::mem::take(&mut self.notes) {
            self.log_note(now, note, self.playout.head().get(), out);
        }
    }
}

impl AudioNote {
    /// It belongs to the audio before it, not to the audio that follows.
    fn ends(&self) -> bool {
        matches!(self, Self::EffectEnded { .. })
    }
}

impl Late {
    /// A frame later than its own length is late; less is the jitter of any line.
    fn note(&mut self, now: CallTime, late: Duration) {
        if late > FRAME {
            self.frames += 1;
            self.worst = self.worst.max(late);
            self.since.get_or_insert(now);
        }
    }

    fn log(&mut self, now: CallTime, after: Duration, side: Side, out: &mut impl Outlet) {
        if self.since.is_some_and(|since| now.since(since) >= after) {
            let worst_ms = self.worst.as_secs_f64() * 1000.0;
            log(out, now, Some(side), Event::Late { frames: self.frames, worst_ms });
            *self = Self::default();
        }
    }
}

fn log_starved(out: &mut impl Outlet, now: CallTime, side: Side, Window { gaps, missing, audio }: Window) {
    let millis = |time: Duration| (time.as_secs_f64() * 1_000_000.0).round() / 1000.0;
    log(out, now, Some(side), Event::Starved { gaps, missing_ms: millis(missing), audio_ms: millis(audio) });
}
