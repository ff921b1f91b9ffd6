//! What passes between the two legs of a call, and when. It owns no socket, task or clock: `now` and events come in, commands,
//! audio for the recording and log lines go out through an [`Outlet`].

use std::time::Duration;

use super::direction::{AudioNote, Direction, Party};
use super::outlet::{Outlet, log};
use super::{CallEnd, CallTime, EndReason, Event, LegCommand, LegEvent, Mark, Side};

/// So long a chat that one side leaves waits for the results of the functions that the other has called: an agent tells of its
/// functions beside its text, and a caller that has read the text may leave before the result has come.
const RESULTS_WITHIN: Duration = Duration::from_secs(2);

/// Joins two legs.
#[derive(Debug)]
pub struct Bridge {
    directions: [Direction; 2],
    /// Who hung up, waiting for what it said before to be played.
    leaving: Option<Leaving>,
    end: Option<CallEnd>,
    /// A script is being played and has not come to its end.
    script_open: bool,
    /// One of the two has text only: no audio passes, and no clock ticks.
    chat: bool,
    frame: Vec<i16>,
    converted: Vec<i16>,
}

/// A side has hung up.
#[derive(Debug)]
struct Leaving {
    since: CallTime,
    by: Side,
    reason: EndReason,
    detail: String,
}

impl Bridge {
    /// A bridge between a caller and an agent.
    #[must_use]
    pub fn new(caller: Party, agent: Party) -> Self {
        let chat = caller.abilities.text_only || agent.abilities.text_only;
        // What never speaks needs no playout of its own rate.
        let agent = if chat { Party { rate: caller.rate, ..agent } } else { agent };
        let directions = [Direction::new(Side::Caller, caller, agent), Direction::new(Side::Agent, agent, caller)];
        let script_open = caller.abilities.scripted || agent.abilities.scripted;
        Self { directions, leaving: None, end: None, script_open, chat, frame: Vec::new(), converted: Vec::new() }
    }

    /// How the call ended; none while it goes on.
    #[must_use]
    pub fn end(&self) -> Option<&CallEnd> {
        self.end.as_ref()
    }

    /// When [`Self::tick`] is due next, if nothing comes before.
    #[must_use]
    pub fn next_wake(&self) -> Option<CallTime> {
        if self.chat {
            return self.leaving.as_ref().map(|leaving| leaving.since + RESULTS_WITHIN);
        }
        self.directions.iter().filter_map(Direction::next_wake).min()
    }

    /// Takes an event of the leg of `side`.
    pub fn event(&mut self, now: CallTime, side: Side, event: LegEvent, out: &mut impl Outlet) {
        match event {
            LegEvent::Audio(_) | LegEvent::Paused(_) if self.chat => {}
            LegEvent::SpeechStarted(_) | LegEvent::SpeechStopped(_) | LegEvent::Clear if self.chat => {}
            LegEvent::Audio(samples) => self.audio(now, side, &samples, out),
            LegEvent::SpeechStarted(mark) => self.speech_started(now, side, mark, out),
            LegEvent::SpeechStopped(mark) => self.direction(side).expect_mark(mark, false),
            LegEvent::Clear => self.direction(side).interrupt(now, out),
            LegEvent::Checkpoint(number) => {
                let direction = self.direction(side);
                direction.expect_checkpoint(number);
                direction.settle_checkpoints(now, out);
            }
            LegEvent::Heard(utterance) => log(out, now, Some(side), Event::Heard { utterance }),
            LegEvent::Hangup { reason, detail } => {
                let cut_short = self.script_open && side == Side::Agent && reason == EndReason::HungUp;
                let reason = if cut_short { EndReason::AgentHungUp } else { reason };
                self.leaving.get_or_insert(Leaving { since: now, by: side, reason, detail });
            }
            LegEvent::ScriptDone => {
                self.script_open = false;
                log(out, now, Some(side), Event::ScriptDone);
            }
            LegEvent::EffectStarted { number, effect, position } => {
                self.direction(side).expect_note(position, AudioNote::EffectStarted { number, effect });
            }
            LegEvent::EffectEnded { number, position } => {
                self.direction(side).expect_note(position, AudioNote::EffectEnded { number })
            }
            LegEvent::Backchannel { text, position, samples } => {
                self.direction(side).expect_note(position, AudioNote::Backchannel { text, samples });
            }
            LegEvent::Lost { frames, concealed } => log(out, now, Some(side), Event::Lost { frames, concealed }),
            LegEvent::Line(counts) => log(out, now, Some(side), Event::Line(counts)),
            LegEvent::Paused(samples) => self.direction(side).skip(samples),
            LegEvent::Dtmf(digit) => {
                out.command(side.other(), LegCommand::Dtmf(digit));
                log(out, now, Some(side), Event::Dtmf { digit });
            }
            LegEvent::Text(text) => {
                out.command(side.other(), LegCommand::Text(&text));
                log(out, now, Some(side), Event::Text { text });
            }
            LegEvent::Data(data) => {
                out.command(side.other(), LegCommand::Data(&data));
                log(out, now, Some(side), Event::Data { data });
            }
            LegEvent::Note(data) => log(out, now, Some(side), Event::Data { data }),
            LegEvent::Transcript(text) => {
                out.command(side.other(), LegCommand::Transcript(&text));
                log(out, now, Some(side), Event::Text { text });
            }
            LegEvent::FunctionCall(call) => {
                out.command(side.other(), LegCommand::FunctionCall(&call));
                if self.chat {
                    self.direction(side).expect_result(&call.id);
                }
                log(out, now, Some(side), Event::FunctionCall(call));
            }
            LegEvent::FunctionResult(result) => {
                out.command(side.other(), LegCommand::FunctionResult(&result));
                self.direction(side).take_result(&result.id);
                log(out, now, Some(side), Event::FunctionResult(result));
            }
            LegEvent::Metadata(metadata) => {
                out.command(side.other(), LegCommand::Metadata(&metadata));
                log(out, now, Some(side), Event::Metadata { metadata });
            }
            LegEvent::Fault { code, detail } => log(out, now, Some(side), Event::Fault { code, detail }),
            LegEvent::Log(line) => log(out, now, Some(side), Event::Log { line }),
            LegEvent::Slipped(slipped_ms) => log(out, now, Some(side), Event::PacingSlipped { slipped_ms }),
            LegEvent::NotRead(frames) => log(out, now, Some(side), Event::NotRead { frames }),
            LegEvent::ScriptLine { condition, text } => log(out, now, Some(side), Event::ScriptLine { condition, text }),
        }
    }

    /// Lets go what is due at `now`.
    pub fn tick(&mut self, now: CallTime, out: &mut impl Outlet) {
        if !self.chat {
            Side::BOTH.into_iter().for_each(|side| self.release(now, side, out));
        }
        let told_all = |leaving: &mut Leaving| {
            let (leaves, stays) = (&self.directions[index(leaving.by)], &self.directions[index(leaving.by.other())]);
            let patient = matches!(leaving.reason, EndReason::ScriptFinished | EndReason::HungUp);
            leaves.drained() && (!patient || !stays.awaits_results() || now >= leaving.since + RESULTS_WITHIN)
        };
        if let Some(Leaving { by, reason, detail, .. }) = self.leaving.take_if(told_all) {
            self.finish(now, CallEnd { by: Some(by), reason, detail }, out);
        }
    }

    /// Ends the call from outside: a limit, a cancellation.
    pub fn finish(&mut self, now: CallTime, end: CallEnd, out: &mut impl Outlet) {
        if self.end.is_some() {
            return;
        }
        for direction in &mut self.directions {
            direction.close(now, out);
        }
        for side in Side::BOTH {
            out.command(side, LegCommand::Ending(&end));
            out.command(side, LegCommand::Hangup(end.reason));
        }
        log(out, now, None, Event::Ended(end.clone()));
        self.end = Some(end);
    }

    fn direction(&mut self, from: Side) -> &mut Direction {
        &mut self.directions[index(from)]
    }

    fn audio(&mut self, now: CallTime, side: Side, samples: &[i16], out: &mut impl Outlet) {
        self.direction(side).take(now, samples, out);
        self.release(now, side, out);
    }

    fn speech_started(&mut self, now: CallTime, side: Side, mark: Mark, out: &mut impl Outlet) {
        self.direction(side).speech_started(mark, out);
        self.direction(side.other()).interrupt(now, out);
    }

    fn release(&mut self, now: CallTime, side: Side, out: &mut impl Outlet) {
        self.directions[index(side)].release(now, &mut self.frame, &mut self.converted, out);
    }
}

fn index(side: Side) -> usize {
    match side {
        Side::Caller => 0,
        Side::Agent => 1,
    }
}
