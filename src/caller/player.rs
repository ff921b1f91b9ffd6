//! Plays a script: what the caller says and when. Owns no clock: it is asked for one 20 ms frame after the other and told
//! what it hears between them, so its time is the count of its frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::turn::{AgentEar, Turn};
use crate::audio::{FRAME, Rate};
use crate::call::{EndReason, LegEvent, Mark, MarkSource};

/// The caller says `speech.started` this long after its first sample, and `speech.completed` this long before its last
/// (Cekura's CHIRP page: about 200 ms).
pub const SIGNAL_OFFSET: Duration = Duration::from_millis(200);
/// A caller that speaks first lets the line settle for this long.
const OPENING_PAUSE: Duration = Duration::from_millis(300);

/// An agent that said it would cut into a pause, and then is not heard for this long, does not.
const UNHEARD: Duration = Duration::from_secs(2);

/// How patient a caller is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long the agent may take to speak, first and after each line, before the caller gives up.
    pub silent_agent: Duration,
    /// The agent has finished when nothing was heard of it for this long.
    pub hangover: Duration,
}

impl Default for Patience {
    /// 15 s for a silent agent; 700 ms of silence end the agent's turn.
    fn default() -> Self {
        Self { silent_agent: Duration::from_secs(15), hangover: Duration::from_millis(700) }
    }
}

/// A line of the script with its speech ready to be sent.
#[derive(Debug, Clone)]
pub struct PreparedLine {
    /// The condition's id in the scenario.
    pub condition: u32,
    /// What it says, for the log.
    pub text: String,
    /// Speaks this long into the agent's speech instead of after it.
    pub interrupt_after: Option<Duration>,
    /// What it does.
    pub steps: Vec<PreparedStep>,
}

/// A step of a line.
#[derive(Debug, Clone)]
pub enum PreparedStep {
    /// Says this, at the leg's rate, without silence at either end.
    Speech {
        /// The samples.
        samples: Arc<[i16]>,
        /// Nothing that the agent says stops it.
        ignore_interruptions: bool,
    },
    /// Pauses; the agent may cut in, and the script goes on when it has finished.
    Silence(Duration),
    /// Pauses, whatever the agent says.
    Hold(Duration),
    /// Hangs up.
    EndCall,
}

/// The script's state.
#[derive(Debug)]
pub struct Player {
    rate: Rate,
    patience: Patience,
    lines: VecDeque<PreparedLine>,
    ear: AgentEar,
    state: State,
    steps: VecDeque<PreparedStep>,
    /// Frames given so far, silence included.
    frames: u64,
    events: VecDeque<LegEvent>,
    agent_cut_in: bool,
    /// What is said next interrupts the agent, by this condition.
    interruption: Option<u32>,
    /// What was said last ignores interruptions: the agent's speech meanwhile is no answer to it.
    ignored: bool,
    over: bool,
}

#[derive(Debug)]
enum State {
    /// The line settles; then the opening line is said.
    Opening {
        until: u64,
    },
    /// The agent is to speak, and then the next line's turn comes.
    Listening {
        since: u64,
        turn: Turn,
    },
    /// The agent cut into a pause of the script; its remaining steps wait.
    Yielding {
        since: u64,
        turn: Turn,
    },
    /// The next step is to be taken.
    NextStep,
    Speaking(Utterance),
    Pausing {
        until: u64,
        hold: bool,
    },
    Over,
}

#[derive(Debug)]
struct Utterance {
    mark: Mark,
    samples: Arc<[i16]>,
    said: usize,
    start_told: bool,
    stop_told: bool,
    ignore_interruptions: bool,
}

impl Player {
    /// A player of `lines` for a leg at `rate`. `speaks_first`: the first line is the caller's opening.
    #[must_use]
    pub fn new(lines: Vec<PreparedLine>, speaks_first: bool, rate: Rate, patience: Patience) -> Self {
        let state = if speaks_first {
            State::Opening { until: frames_in(OPENING_PAUSE) }
        } else {
            State::Listening { since: 0, turn: Turn::new(false) }
        };
        Self {
            rate,
            patience,
            lines: lines.into(),
            ear: AgentEar::new(rate, patience.hangover),
            state,
            steps: VecDeque::new(),
            frames: 0,
            events: VecDeque::new(),
            agent_cut_in: false,
            interruption: None,
            ignored: false,
            over: false,
        }
    }

    /// Takes what is heard of the agent.
    pub fn hear(&mut self, samples: &[i16]) {
        self.ear.hear(samples);
    }

    /// The agent said that it begins to speak, which stops the caller.
    pub fn agent_started(&mut self) {
        self.ear.told_start();
        self.agent_cut_in = true;
    }

    /// The agent said that it has finished.
    pub fn agent_stopped(&mut self) {
        self.ear.told_stop();
    }

    /// What happened since the last frame.
    pub fn take_event(&mut self) -> Option<LegEvent> {
        self.events.pop_front()
    }

    /// The next 20 ms; none when they are silent.
    pub fn frame(&mut self) -> Option<Vec<i16>> {
        self.ear.pass_frame();
        self.advance();
        let frame = match &mut self.state {
            State::Speaking(utterance) => {
                let from = utterance.said;
                let to = (from + self.rate.frame_len()).min(utterance.samples.len());
                utterance.said = to;
                let mut frame = utterance.samples[from..to].to_vec();
                frame.resize(self.rate.frame_len(), 0);
                Some(frame)
            }
            _ => None,
        };
        self.frames += 1;
        self.tell_marks();
        frame
    }

    /// Moves through the script as far as this frame goes.
    fn advance(&mut self) {
        let cut_in = std::mem::take(&mut self.agent_cut_in);
        while !self.over {
            let before = std::mem::replace(&mut self.state, State::NextStep);
            match before {
                State::Opening { until } if self.frames < until => return self.state = State::Opening { until },
                State::Opening { .. } => self.begin_line(),
                State::Listening { since, turn } => {
                    if !self.listen(since, turn) {
                        return;
                    }
                }
                State::Yielding { since, mut turn } => {
                    turn.note(&self.ear, self.frames);
                    let unheard = turn.spoken(self.frames).is_none() && self.frames - since >= frames_in(UNHEARD);
                    if !unheard && !turn.over(&self.ear) {
                        return self.state = State::Yielding { since, turn };
                    }
                }
                State::Pausing { until, hold: false } if self.frames < until && (cut_in || self.ear.voiced()) => {
                    return self.state = State::Yielding { since: self.frames, turn: Turn::new(true) };
                }
                State::Pausing { until, hold } if self.frames < until => {
                    return self.state = State::Pausing { until, hold };
                }
                State::Pausing { .. } => {}
                State::Speaking(utterance) if cut_in && utterance.may_be_cut() => self.cut(utterance),
                State::Speaking(utterance) if utterance.said < utterance.samples.len() => {
                    return self.state = State::Speaking(utterance);
                }
                State::Speaking(_) => {}
                State::NextStep => self.next_step(),
                State::Over => return self.state = State::Over,
            }
        }
    }

    /// Waits for the agent's turn to end, or for the moment to interrupt it. False: still waiting.
    fn listen(&mut self, since: u64, mut turn: Turn) -> bool {
        turn.note(&self.ear, self.frames);
        let interrupt_after = self.lines.front().and_then(|line| line.interrupt_after);
        let spoken = turn.spoken(self.frames);
        let interrupts = interrupt_after.is_some_and(|after| spoken.is_some_and(|frames| frames >= frames_in(after)));
        if interrupts || turn.over(&self.ear) {
            if self.lines.is_empty() {
                self.finish(EndReason::ScriptFinished, String::new());
            } else {
                self.begin_line();
            }
            return true;
        }
        if spoken.is_none() && self.frames - since >= frames_in(self.patience.silent_agent) {
            let waited = self.patience.silent_agent.as_secs_f64();
            self.finish(EndReason::AgentSilent, format!("the agent said nothing for {waited} s"));
            return true;
        }
        self.state = State::Listening { since, turn };
        false
    }

    fn begin_line(&mut self) {
        let Some(line) = self.lines.pop_front() else {
            return self.finish(EndReason::ScriptFinished, String::new());
        };
        let interrupts = line.interrupt_after.is_some() && self.ear.voiced();
        self.interruption = interrupts.then_some(line.condition);
        self.events.push_back(LegEvent::ScriptLine { condition: line.condition, text: line.text });
        self.steps = line.steps.into();
        self.state = State::NextStep;
    }

    fn next_step(&mut self) {
        self.state = match self.steps.pop_front() {
            Some(PreparedStep::Speech { samples, ignore_interruptions }) => {
                self.ignored = ignore_interruptions;
                State::Speaking(self.utterance(samples, ignore_interruptions))
            }
            Some(PreparedStep::Silence(time)) => State::Pausing { until: self.frames + frames_in(time), hold: false },
            Some(PreparedStep::Hold(time)) => State::Pausing { until: self.frames + frames_in(time), hold: true },
            Some(PreparedStep::EndCall) => {
                self.events.push_back(LegEvent::ScriptDone);
                return self.finish(EndReason::ScriptFinished, String::new());
            }
            None => {
                if self.lines.is_empty() {
                    self.events.push_back(LegEvent::ScriptDone);
                }
                State::Listening { since: self.frames, turn: Turn::new(self.ear.voiced() && !self.ignored) }
            }
        };
    }

    fn utterance(&mut self, samples: Arc<[i16]>, ignore_interruptions: bool) -> Utterance {
        let position = Some(self.frames * self.rate.frame_len() as u64);
        let (utterance, source) = (Uuid::new_v4().to_string(), MarkSource::Script);
        let mark = Mark { utterance, position, source, interruption: self.interruption.take() };
        Utterance { mark, samples, said: 0, start_told: false, stop_told: false, ignore_interruptions }
    }

    /// The agent began to speak over the caller: what is left of the line is not said.
    fn cut(&mut self, mut utterance: Utterance) {
        utterance.samples = utterance.samples[..utterance.said].into();
        Self::tell(&mut self.events, &mut utterance, true, true);
        // The line's hanging up comes after the agent's turn.
        if self.steps.iter().any(|step| matches!(step, PreparedStep::EndCall)) {
            self.lines.clear();
        }
        self.steps.clear();
    }

    /// Tells the start and the stop of what is being said when their moments have come.
    fn tell_marks(&mut self) {
        let offset = self.rate.samples_in(SIGNAL_OFFSET) as usize;
        if let State::Speaking(utterance) = &mut self.state {
            let (said, all) = (utterance.said, utterance.samples.len());
            let start = said >= offset.min(all / 2);
            let stop = said + offset.min(all / 2) >= all;
            Self::tell(&mut self.events, utterance, start, stop);
        }
    }

    fn tell(events: &mut VecDeque<LegEvent>, utterance: &mut Utterance, start: bool, stop: bool) {
        if start && !std::mem::replace(&mut utterance.start_told, true) {
            events.push_back(LegEvent::SpeechStarted(utterance.mark.clone()));
        }
        if stop && utterance.start_told && !std::mem::replace(&mut utterance.stop_told, true) {
            let end = utterance.mark.position.map(|from| from + utterance.samples.len() as u64);
            events.push_back(LegEvent::SpeechStopped(Mark { position: end, ..utterance.mark.clone() }));
        }
    }

    fn finish(&mut self, reason: EndReason, detail: String) {
        self.state = State::Over;
        self.over = true;
        self.events.push_back(LegEvent::Hangup { reason, detail });
    }
}

impl Utterance {
    /// Once its stop is told it is said to the end, which is near: the stop's place must hold.
    fn may_be_cut(&self) -> bool {
        self.said > 0 && !self.stop_told && !self.ignore_interruptions
    }
}

fn frames_in(time: Duration) -> u64 {
    (time.as_nanos() / FRAME.as_nanos()) as u64
}
