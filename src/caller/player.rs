//! Plays a script: what the caller says and when. Owns no clock: it is asked for one 20 ms frame after the other and told
//! what it hears between them, so its time is the count of its frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::course::{Course, Next};
use super::effects::Output;
use super::keypad::Keys;
use super::prepared::{Manner, PreparedLine, PreparedStep};
use super::suite::Delivery;
use super::turn::{AgentEar, Turn};
use super::utterance::Utterance;
use crate::audio::{FRAME, Rate};
use crate::call::{Effect, EndReason, LegEvent};

/// A caller that speaks first lets the line settle for this long.
const OPENING_PAUSE: Duration = Duration::from_millis(300);
/// An agent that said it would cut into a pause, and then is not heard for this long, does not.
const UNHEARD: Duration = Duration::from_secs(2);
/// From one key to the next: 100 ms of tone and 100 ms of pause, as dialling machines do (ETSI ES 201 235-2 asks for at least
/// 65 ms of each).
const KEY_EVERY: Duration = Duration::from_millis(200);

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

/// What a player asks for on its way; its line is silent until it is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Make this REST call. To be answered with [`Answer::Called`].
    Call(String),
    /// Speak these words, with the values that functions gave. To be answered with [`Answer::Spoken`].
    Speak {
        /// The words, with their `{{function.name.key}}`.
        text: String,
        /// How.
        delivery: Delivery,
    },
}

/// What a [`Request`] came to.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The call was made.
    Called,
    /// The steps that say the words.
    Spoken(Vec<PreparedStep>),
    /// The words with their values, for a caller that writes.
    Filled(String),
    /// It cannot be had, and why: the caller hangs up.
    Failed(String),
}

/// The script's state.
#[derive(Debug)]
pub struct Player {
    rate: Rate,
    patience: Patience,
    lines: Vec<PreparedLine>,
    course: Course,
    manner: Manner,
    ear: AgentEar,
    keys: Keys,
    /// What the agent said in words since the last line began, and how much of it no rule was for.
    words: Vec<String>,
    unmatched: usize,
    /// A key press is a turn by itself.
    pressed: bool,
    /// The frame at which the agent last gave a sign.
    agent_last: u64,
    state: State,
    steps: VecDeque<PreparedStep>,
    changes: Vec<Effect>,
    output: Output,
    /// Frames given so far, silence included.
    frames: u64,
    /// The last of them carried what must be heard.
    heard: bool,
    events: VecDeque<LegEvent>,
    requests: VecDeque<Request>,
    agent_cut_in: bool,
    /// What is said next interrupts the agent, by this condition.
    interruption: Option<u32>,
    /// What was said last ignores interruptions: the agent's speech meanwhile is no answer to it.
    ignored: bool,
    /// The agent cut into a line that hangs up: it does after the agent's turn.
    hangs_up: bool,
    done_told: bool,
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
        /// Backchannels said into this turn.
        asides: usize,
    },
    /// The agent's turn is over; the caller takes its time.
    Thinking {
        until: u64,
        line: usize,
    },
    /// The agent cut into a pause of the script; its remaining steps wait.
    Yielding {
        since: u64,
        turn: Turn,
    },
    /// The next step is to be taken.
    NextStep,
    /// Speech, and the effects that end with it.
    Speaking(Utterance, Vec<u32>),
    /// A sound that is no speech.
    Sounding {
        samples: Arc<[i16]>,
        said: usize,
        effect: u32,
        /// The place of the first sample after it.
        end: u64,
    },
    Pressing {
        digits: VecDeque<char>,
        next: u64,
    },
    Pausing {
        until: u64,
        hold: bool,
    },
    /// What was asked for has not come.
    Asking,
    Over,
}

impl Player {
    /// A player of `lines`, one after the other, for a leg at `rate`. `speaks_first`: the first line is the caller's opening.
    #[must_use]
    pub fn new(lines: Vec<PreparedLine>, speaks_first: bool, rate: Rate, patience: Patience) -> Self {
        let course = Course::chain(lines.len(), speaks_first);
        Self::on_course(lines, course, Manner::default(), rate, patience)
    }

    /// A player that takes its lines as `course` says.
    pub(super) fn on_course(lines: Vec<PreparedLine>, course: Course, manner: Manner, rate: Rate, patience: Patience) -> Self {
        let state = match course.opening() {
            Some(_) => State::Opening { until: frames_in(OPENING_PAUSE) },
            None => State::listening(0, false),
        };
        Self {
            rate,
            patience,
            lines,
            course,
            manner,
            ear: AgentEar::new(rate, patience.hangover),
            keys: Keys::default(),
            words: Vec::new(),
            unmatched: 0,
            pressed: false,
            agent_last: 0,
            state,
            steps: VecDeque::new(),
            changes: Vec::new(),
            output: Output::new(rate),
            frames: 0,
            heard: false,
            events: VecDeque::new(),
            requests: VecDeque::new(),
            agent_cut_in: false,
            interruption: None,
            ignored: false,
            hangs_up: false,
            done_told: false,
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

    /// Takes words of the agent's speech. They belong to the turn after the caller's last line.
    pub fn agent_words(&mut self, words: &str) {
        self.agent_last = self.frames;
        self.words.push(words.to_owned());
    }

    /// Takes a key that the agent presses. Keys less than 2 s apart are one turn, whose words are `DTMF: ` and the keys.
    pub fn agent_pressed(&mut self, digit: char) {
        self.agent_last = self.frames;
        self.keys.press(digit, self.frames);
    }

    /// What happened since the last frame.
    pub fn take_event(&mut self) -> Option<LegEvent> {
        self.events.pop_front()
    }

    /// What is asked for since the last frame.
    pub fn take_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// Takes what the last request came to.
    pub fn answer(&mut self, answer: Answer) {
        if !matches!(self.state, State::Asking) {
            return;
        }
        // An agent that speaks just then is heard out.
        self.state = match self.ear.voiced() {
            true => State::Yielding { since: self.frames, turn: Turn::new(true) },
            false => State::NextStep,
        };
        match answer {
            Answer::Called | Answer::Filled(_) => {}
            Answer::Spoken(steps) => steps.into_iter().rev().for_each(|step| self.steps.push_front(step)),
            Answer::Failed(why) => self.finish(EndReason::CallerFailed, why),
        }
    }

    /// Whether the last frame carried what must be heard: speech, a backchannel or a sound, not only a background.
    #[must_use]
    pub fn was_heard(&self) -> bool {
        self.heard
    }

    /// The next 20 ms; none when they are silent.
    pub fn frame(&mut self) -> Option<Vec<i16>> {
        self.ear.pass_frame();
        if self.ear.voiced() {
            self.agent_last = self.frames;
        }
        if let Some(turn) = self.keys.take(self.frames) {
            self.words.push(turn);
            self.pressed = true;
        }
        self.advance();
        let position = self.position();
        let frame = match &mut self.state {
            State::Speaking(utterance, _) => Some(utterance.frame(self.rate)),
            State::Sounding { samples, said, .. } => {
                let from = *said;
                *said = (from + self.rate.frame_len()).min(samples.len());
                let mut frame = samples[from..*said].to_vec();
                frame.resize(self.rate.frame_len(), 0);
                Some(frame)
            }
            _ => None,
        };
        let holding = matches!(self.state, State::Pausing { hold: true, .. });
        self.heard = frame.is_some() || self.output.says_aside();
        let frame = self.output.frame(frame, holding, position, &mut self.events);
        self.frames += 1;
        if let State::Speaking(utterance, _) = &mut self.state {
            utterance.tell_marks(self.rate, &mut self.events);
        }
        frame
    }

    /// Moves through the script as far as this frame goes.
    fn advance(&mut self) {
        let cut_in = std::mem::take(&mut self.agent_cut_in);
        while !self.over {
            let before = std::mem::replace(&mut self.state, State::NextStep);
            let stays = match before {
                State::Listening { since, turn, asides } => !self.listen(since, turn, asides),
                State::Yielding { since, turn } => self.yields(since, turn),
                State::Speaking(utterance, effects) => self.speaks(utterance, effects, cut_in),
                State::NextStep => {
                    self.next_step();
                    false
                }
                timed => self.passes(timed, cut_in),
            };
            if stays {
                return;
            }
        }
    }

    /// A state that only time ends, or the agent. True: it stays for this frame.
    fn passes(&mut self, state: State, cut_in: bool) -> bool {
        let agent_speaks = cut_in || self.ear.voiced();
        match state {
            State::Opening { until } if self.frames >= until => {
                let opening = self.course.opening().expect("a caller that opens has an opening line");
                self.begin_line(opening);
                return false;
            }
            // The agent had not finished: what it adds is a part of its turn. Its word that it begins is not enough: nothing may
            // come of it.
            State::Thinking { until, .. } if self.frames < until && self.ear.voiced() => {
                self.unmatched = 0;
                self.state = State::listening(self.frames, true);
                return false;
            }
            State::Thinking { until, line } if self.frames >= until => {
                self.begin_line(line);
                return false;
            }
            State::Pausing { until, .. } if self.frames >= until => return false,
            State::Pausing { hold: false, .. } if agent_speaks => {
                self.state = State::Yielding { since: self.frames, turn: Turn::new(true) };
            }
            State::Sounding { samples, said, effect, end } if said == samples.len() => {
                self.end_effects(&[effect], end);
                return false;
            }
            State::Pressing { mut digits, next } if self.frames >= next => {
                let Some(digit) = digits.pop_front() else { return false };
                self.events.push_back(LegEvent::Dtmf(digit));
                self.state = State::Pressing { digits, next: self.frames + frames_in(KEY_EVERY) };
            }
            stays => self.state = stays,
        }
        true
    }

    /// The agent cut into a pause. True: it is still its turn.
    fn yields(&mut self, since: u64, mut turn: Turn) -> bool {
        turn.note(&self.ear, self.frames);
        let unheard = turn.spoken(self.frames).is_none() && self.frames - since >= frames_in(UNHEARD);
        let stays = !unheard && !turn.over(&self.ear);
        if stays {
            self.state = State::Yielding { since, turn };
        }
        stays
    }

    /// Something is being said. True: there is more of it.
    fn speaks(&mut self, utterance: Utterance, effects: Vec<u32>, cut_in: bool) -> bool {
        if cut_in && utterance.may_be_cut() {
            self.cut(utterance, &effects);
            return false;
        }
        let stays = !utterance.is_over();
        if stays {
            self.state = State::Speaking(utterance, effects);
        } else {
            self.end_effects(&effects, utterance.end());
        }
        stays
    }

    /// Waits for the agent's turn to end, or for the moment to interrupt it. False: still waiting.
    fn listen(&mut self, since: u64, mut turn: Turn, mut asides: usize) -> bool {
        turn.note(&self.ear, self.frames);
        let spoken = turn.spoken(self.frames);
        let follow_up = self.course.follow_up().filter(|_| !self.hangs_up);
        if let (Some(line), Some(spoken)) = (follow_up, spoken)
            && self.manner.interrupts
            && self.lines[line].interrupt_after.is_some_and(|after| spoken >= frames_in(after))
        {
            self.begin_line(line);
            return true;
        }
        let over = turn.over(&self.ear) || (self.pressed && !self.ear.speaking());
        if over && self.take_turn() {
            return true;
        }
        let last = if over { since.max(self.agent_last) } else { since };
        if (over || spoken.is_none()) && self.frames - last >= frames_in(self.patience.silent_agent) {
            self.give_up(over);
            return true;
        }
        if let (Some(spoken), Some(aside)) = (spoken, self.manner.backchannels.get(asides))
            && !over
            && spoken >= frames_in(aside.at)
        {
            self.output.say_aside(aside, self.frames * self.rate.frame_len() as u64, &mut self.events);
            asides += 1;
        }
        self.state = State::Listening { since, turn, asides };
        false
    }

    /// The agent's turn is over. False: there is nothing to say to it.
    fn take_turn(&mut self) -> bool {
        if self.hangs_up {
            self.finish(EndReason::ScriptFinished, String::new());
            return true;
        }
        // What no rule was for is not judged again until there is more of it.
        if self.course.needs_words() && self.unmatched == self.words.len() {
            return false;
        }
        self.unmatched = self.words.len();
        match self.course.after(&self.words.join(" ")) {
            Next::Line(line) if self.manner.pause.is_zero() => self.begin_line(line),
            Next::Line(line) => self.state = State::Thinking { until: self.frames + frames_in(self.manner.pause), line },
            Next::Finished => self.finish(EndReason::ScriptFinished, String::new()),
            Next::Endless => self.finish(EndReason::UnexpectedReply, Course::circle()),
            Next::Unmatched => return false,
        }
        true
    }

    /// The caller has waited in vain. `spoke`: the agent said something, and nothing that there is a line for.
    fn give_up(&mut self, spoke: bool) {
        let waited = self.patience.silent_agent.as_secs_f64();
        if !spoke {
            self.finish(EndReason::AgentSilent, format!("the agent said nothing for {waited} s"));
        } else if self.course.done() {
            self.finish(EndReason::ScriptFinished, String::new());
        } else if self.words.is_empty() {
            let problem = "the agent spoke, and nothing told its words: no condition could be judged";
            self.finish(EndReason::UnexpectedReply, problem.to_owned());
        } else {
            let words = self.words.join(" ");
            self.finish(EndReason::UnexpectedReply, format!("no condition is for what the agent said: {words:?}"));
        }
    }

    fn begin_line(&mut self, number: usize) {
        self.course.say(number);
        self.words.clear();
        (self.unmatched, self.pressed) = (0, false);
        let line = &self.lines[number];
        let interrupts = line.interrupt_after.is_some() && self.manner.interrupts && self.ear.voiced();
        self.interruption = interrupts.then_some(line.condition);
        self.events.push_back(LegEvent::ScriptLine { condition: line.condition, text: line.text.clone() });
        self.steps = line.steps.iter().cloned().collect();
        self.state = State::NextStep;
    }

    fn next_step(&mut self) {
        let position = self.position();
        self.state = match self.steps.pop_front() {
            Some(PreparedStep::Speech { samples, ignore_interruptions }) => {
                self.ignored = ignore_interruptions;
                let utterance = Utterance::new(samples, position, ignore_interruptions, self.interruption.take());
                let changes = std::mem::take(&mut self.changes);
                let begin = |effect| self.output.begin(effect, position, &mut self.events);
                State::Speaking(utterance, changes.into_iter().map(begin).collect())
            }
            Some(PreparedStep::Sound { samples, effect }) => {
                let effect = self.output.begin(effect, position, &mut self.events);
                State::Sounding { said: 0, effect, end: position + samples.len() as u64, samples }
            }
            Some(PreparedStep::Silence(time)) => State::Pausing { until: self.frames + frames_in(time), hold: false },
            Some(PreparedStep::Hold(time)) => State::Pausing { until: self.frames + frames_in(time), hold: true },
            Some(PreparedStep::Dtmf(digits)) => State::Pressing { digits: digits.chars().collect(), next: self.frames },
            Some(PreparedStep::Function(name)) => self.ask(Request::Call(name)),
            Some(PreparedStep::Words { text, delivery }) => self.ask(Request::Speak { text, delivery }),
            Some(PreparedStep::EndCall) => {
                self.tell_done();
                return self.finish(EndReason::ScriptFinished, String::new());
            }
            Some(at_once) => {
                self.at_once(at_once, position);
                State::NextStep
            }
            None => {
                if self.course.done() || self.hangs_up {
                    self.tell_done();
                }
                State::listening(self.frames, self.ear.voiced() && !self.ignored)
            }
        };
    }

    /// A step that takes no time.
    fn at_once(&mut self, step: PreparedStep, position: u64) {
        match step {
            PreparedStep::Changed(effects) => self.changes = effects,
            PreparedStep::Background(bed) => self.output.set_background(bed, position, &mut self.events),
            PreparedStep::Loss { percent, seed } => self.output.set_loss(percent, seed, position, &mut self.events),
            PreparedStep::Message(data) => self.events.push_back(LegEvent::Data(data)),
            _ => {}
        }
    }

    fn ask(&mut self, request: Request) -> State {
        self.requests.push_back(request);
        State::Asking
    }

    /// The agent began to speak over the caller: what is left of the line is not said.
    fn cut(&mut self, mut utterance: Utterance, effects: &[u32]) {
        utterance.cut(&mut self.events);
        self.end_effects(effects, utterance.end());
        self.output.set_background(None, self.position(), &mut self.events);
        // The line's hanging up comes after the agent's turn.
        self.hangs_up = self.steps.iter().any(|step| matches!(step, PreparedStep::EndCall));
        self.steps.clear();
    }

    fn end_effects(&mut self, effects: &[u32], position: u64) {
        self.events.extend(effects.iter().map(|number| LegEvent::EffectEnded { number: *number, position }));
    }

    fn tell_done(&mut self) {
        if !std::mem::replace(&mut self.done_told, true) {
            self.events.push_back(LegEvent::ScriptDone);
        }
    }

    fn finish(&mut self, reason: EndReason, detail: String) {
        self.state = State::Over;
        self.over = true;
        self.output.finish(self.position(), &mut self.events);
        self.events.push_back(LegEvent::Hangup { reason, detail });
    }

    /// The place of the next frame's first sample in the caller's stream.
    fn position(&self) -> u64 {
        self.frames * self.rate.frame_len() as u64
    }
}

impl State {
    fn listening(since: u64, speaks_already: bool) -> Self {
        Self::Listening { since, turn: Turn::new(speaks_already), asides: 0 }
    }
}

fn frames_in(time: Duration) -> u64 {
    (time.as_nanos() / FRAME.as_nanos()) as u64
}
